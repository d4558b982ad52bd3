//! placeholder
pub(crate) mod cli;
pub(crate) fn run(_: &cli::Target) -> Result<std::process::ExitCode, crate::Failure> {
    Err(crate::Failure::Input(String::new()))
}
