//! Real programs that tests are done with.

use std::process::{Command, Output, Stdio};

/// A program that `make test` installs. Where it is not there the test is skipped, unless that is where all must be there.
pub(crate) fn tool(name: &str) -> Option<Command> {
    let there = Command::new(name).arg("--version").output().is_ok();
    if there {
        return Some(Command::new(name));
    }
    assert!(
        std::env::var_os("CI").is_none(),
        "{name} is not there; `make test` installs it"
    );
    eprintln!("skipped: {name} is not there; `make test` installs it");
    None
}

/// What a program says, and how it ends; it runs beside the test.
pub(crate) async fn run(mut command: Command) -> Output {
    let run = move || command.stdin(Stdio::null()).output();
    let output = super::soon("the end of a program", tokio::task::spawn_blocking(run)).await;
    output
        .expect("it is not aborted")
        .expect("the program can be run")
}

/// Standard output and standard error as text.
pub(crate) fn said(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    text(&output.stdout) + &text(&output.stderr)
}
