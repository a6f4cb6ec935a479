//! The FUSE adapter: turns requests into calls of the core and results into replies.
