//! `-o` text → [`Config`]. Pure.
