//! The operator's guide: what to decide, what to watch, and what to do when something is wrong.
//!
//! The same text is the man page vms-edge-guide(7) of the Debian package. `conf/edge.toml` explains each key by itself;
//! here is what no single key can tell. Nothing of it is part of the program.

macro_rules! chapters {
    ($($name:ident $file:literal)*) => {
        $(
            #[doc = include_str!($file)]
            pub mod $name {}
        )*

        /// The text of the chapters in their order, as Markdown, each beginning with its heading.
        pub const CHAPTERS: &[&str] = &[$(include_str!($file)),*];
    };
}

chapters! {
    sizing "guide/sizing.md"
    windows "guide/windows.md"
    memory "guide/memory.md"
    certificates "guide/certificates.md"
    neighbours "guide/neighbours.md"
    limits "guide/limits.md"
    outages "guide/outages.md"
    replacing "guide/replacing.md"
    watching "guide/watching.md"
    alerts "guide/alerts.md"
    following "guide/following.md"
    incidents "guide/incidents.md"
    security "guide/security.md"
}
