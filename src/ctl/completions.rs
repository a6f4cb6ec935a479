//! What a shell is to complete, made from the command lines themselves: packages have it written at build time.

use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::exit::{Exit, Failure};

/// Of which program, for which shell.
#[derive(Debug, clap::Args)]
pub struct Args {
    shell: Shell,
    #[arg(default_value = "listindexctl")]
    program: Program,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Program {
    Listindexctl,
    Listindexfs,
}

/// Prints it.
pub fn run(args: &Args) -> Result<Exit, Failure> {
    let mut command = match args.program {
        Program::Listindexctl => super::Args::command(),
        Program::Listindexfs => crate::cli::command(),
    };
    let name = command.get_name().to_owned();
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut command, name, &mut text);
    crate::cli::say(&text)?;
    Ok(Exit::Success)
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_is_hidden_is_not_completed() {
        let command = crate::cli::command();
        let options: Vec<_> = command
            .get_arguments()
            .filter_map(clap::Arg::get_long)
            .collect();
        assert_eq!(options, ["foreground", "debug"]);
    }
}
