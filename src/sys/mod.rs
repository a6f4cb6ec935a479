//! All unsafe code, wrapped so that its callers need none.
#![allow(unsafe_code)]

pub mod process;
