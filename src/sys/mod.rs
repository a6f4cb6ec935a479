//! The system calls no crate offers safely: all `unsafe` of the project lives here.
#![allow(unsafe_code)]

pub mod cred;
pub mod fd;
pub mod handle;
pub mod lock;
pub mod process;
pub mod shared;
