//! The operator's guide, against what it explains.

use std::collections::BTreeSet;

use vms_edge::guide::CHAPTERS;

use crate::read;

#[test]
fn every_alert_has_a_section_of_the_guide_and_every_section_an_alert() {
    let rules = read("conf/prometheus/alerts.yml");
    let alerts: BTreeSet<_> = rules
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "))
        .collect();
    assert!(alerts.len() > 20, "{alerts:?}");
    let sections: BTreeSet<_> = CHAPTERS
        .iter()
        .flat_map(|text| text.lines())
        .filter_map(|line| line.strip_prefix("## "))
        .filter(|heading| heading.starts_with("VmsEdge"))
        .collect();
    assert_eq!(sections, alerts);
}

#[test]
fn every_key_and_metric_that_the_guide_names_is_there() {
    let reference = read("README.md");
    for text in CHAPTERS {
        for word in text.split('`').skip(1).step_by(2) {
            let name = word.split(['{', ' ']).next().unwrap();
            let is_metric = name.starts_with("vms_edge_");
            let sections = [
                "server.",
                "upstream.",
                "batch.",
                "headers.",
                "cache.",
                "admin.",
                "log.",
                "limits.",
                "tracing.",
                "invalidate.",
            ];
            let is_key = sections.iter().any(|section| name.starts_with(section));
            if is_metric || is_key {
                let listed = format!("| `{name}");
                assert!(
                    reference.contains(&listed),
                    "{word} is not in the README's tables"
                );
            }
        }
    }
}
