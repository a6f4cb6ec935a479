//! Dovecot's variables: Dovecot's own expansions, tables of accepted and refused templates, and properties.

mod errors;
mod layouts;
mod properties;
mod vectors;
