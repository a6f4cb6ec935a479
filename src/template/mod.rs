//! Dovecot's variables, both directions: user → path, path → user. Pure.
