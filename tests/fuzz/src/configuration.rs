//! The configuration: whatever is in the file, the edge either names what is wrong or has a configuration, and what it prints
//! as the one in effect is that very configuration.
//!
//! Input: a file.

use vms_edge::config::Config;

const FILE: &str = "the-file.toml";

/// Runs one input.
///
/// # Panics
///
/// If a fault does not name its file, or what is printed reads as something else.
pub fn configuration(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    // Files that the file names are read. Those of devices have no end.
    if text.contains("/dev/") {
        return;
    }
    let config = match Config::parse(text, FILE) {
        Ok(config) => config,
        Err(error) => {
            let told = error.to_string();
            assert!(told.contains(FILE), "{told}");
            return;
        }
    };
    assert!(!config.batches.is_empty() && !config.upstream.servers.is_empty());
    assert!(
        config
            .batches
            .iter()
            .all(|batch| batch.path.starts_with('/'))
    );
    let printed = config.effective();
    let again = Config::parse(&printed, FILE);
    let again = again.unwrap_or_else(|error| panic!("{error}\n{printed}"));
    assert_eq!(again, config, "{printed}");
    assert_eq!(again.effective(), printed);
}
