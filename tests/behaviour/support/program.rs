//! Programs that run beside a test.

use std::process::{Command, Output, Stdio};

use super::soon;

/// What a program says, and how it ends; it runs beside the test.
pub(crate) async fn run(mut command: Command) -> Output {
    let run = move || command.stdin(Stdio::null()).output();
    let output = soon("the end of a program", tokio::task::spawn_blocking(run)).await;
    output
        .expect("it is not aborted")
        .expect("the program can be run")
}

/// Standard output and standard error as text.
pub(crate) fn said(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    text(&output.stdout) + &text(&output.stderr)
}
