//! placeholder
#[derive(Debug, clap::Args)]
pub(crate) struct Target {
    #[arg(long, required = true)]
    target: String,
}
