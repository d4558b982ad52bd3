//! Markdown to a man page, as far as the guide goes: headings, paragraphs, lists, code, emphasis and links.
//!
//! A link into the guide itself becomes its text, any other its text and its address, since a page on paper or in a
//! terminal has nothing to click on. What the guide does not use (tables, images, HTML) stops the build.

use pulldown_cmark::{CodeBlockKind, Event, HeadingLevel, Parser, Tag, TagEnd};
use roff::{Inline, Roff, bold, italic, roman};

/// A page of section 7 called `name`, of which `markdown` is the text.
pub(crate) fn page(name: &str, purpose: &str, markdown: &str) -> String {
    let version = concat!("vms-edge ", env!("CARGO_PKG_VERSION"));
    let mut roff = Roff::new();
    // No date, so that the same source makes the same page.
    roff.control(
        "TH",
        [&name.to_uppercase(), "7", "\\&", version, "vms-edge"],
    );
    // Keys and commands are not to be hyphenated, nor words to be set apart to reach the margin.
    roff.control("nr", ["HY", "0"])
        .control("nh", [])
        .control("ad", ["l"]);
    roff.control("SH", ["NAME"]);
    roff.text([roman(format!("{name} - {purpose}"))]);
    let mut writer = Writer {
        roff,
        ..Writer::default()
    };
    for event in Parser::new(markdown) {
        writer.take(event);
    }
    writer.roff.to_roff()
}

#[derive(Default)]
struct Writer {
    roff: Roff,
    line: Vec<Inline>,
    font: Font,
    /// Numbers of the lists that the text is in, innermost last; `None` is a list with bullets.
    lists: Vec<Option<u64>>,
    /// Where the link leads that the text is in.
    link: Option<String>,
    code: bool,
}

#[derive(Clone, Copy, Default)]
enum Font {
    #[default]
    Roman,
    Bold,
    Italic,
}

impl Writer {
    fn take(&mut self, event: Event<'_>) {
        match event {
            Event::Start(tag) => self.start(tag),
            Event::End(tag) => self.end(tag),
            Event::Text(text) if self.code => self.verbatim(&text),
            Event::Text(text) => self.say(&text),
            Event::Code(text) => self.line.push(bold(text.as_ref())),
            Event::SoftBreak => self.say(" "),
            other => panic!("the guide uses {other:?}, which its man page cannot show"),
        }
    }

    fn start(&mut self, tag: Tag<'_>) {
        match tag {
            Tag::Paragraph if self.lists.is_empty() => {
                self.roff.control("PP", []);
            }
            Tag::Paragraph => {}
            Tag::Heading { .. } => {}
            Tag::CodeBlock(CodeBlockKind::Fenced(_)) => {
                self.flush();
                self.roff.control("RS", ["4"]).control("EX", []);
                self.code = true;
            }
            Tag::List(first) => {
                self.flush();
                if !self.lists.is_empty() {
                    self.roff.control("RS", []);
                }
                self.lists.push(first);
            }
            Tag::Item => match self.lists.last_mut() {
                Some(Some(number)) => {
                    let label = format!("{number}.");
                    *number += 1;
                    self.roff.control("IP", [label.as_str(), "4"]);
                }
                _ => {
                    self.roff.control("IP", ["\\(bu", "2"]);
                }
            },
            Tag::Strong => self.font = Font::Bold,
            Tag::Emphasis => self.font = Font::Italic,
            Tag::Link { dest_url, .. } => self.link = Some(dest_url.into_string()),
            other => panic!("the guide uses {other:?}, which its man page cannot show"),
        }
    }

    fn end(&mut self, tag: TagEnd) {
        match tag {
            TagEnd::Heading(level) => {
                let text: String = std::mem::take(&mut self.line)
                    .into_iter()
                    .map(|inline| match inline {
                        Inline::Roman(text) | Inline::Bold(text) | Inline::Italic(text) => text,
                        Inline::LineBreak => " ".to_owned(),
                    })
                    .collect();
                match level {
                    HeadingLevel::H1 => self.roff.control("SH", [text.to_uppercase().as_str()]),
                    HeadingLevel::H2 => self.roff.control("SS", [text.as_str()]),
                    _ => self.roff.control("PP", []).text([bold(text)]),
                };
            }
            TagEnd::CodeBlock => {
                self.code = false;
                self.roff.control("EE", []).control("RE", []);
            }
            TagEnd::List(_) => {
                self.flush();
                self.lists.pop();
                if !self.lists.is_empty() {
                    self.roff.control("RE", []);
                }
            }
            TagEnd::Strong | TagEnd::Emphasis => self.font = Font::Roman,
            TagEnd::Link => {
                let target = self.link.take().expect("a link ends after it began");
                if target.starts_with("http") {
                    self.line.push(roman(format!(" <{target}>")));
                }
            }
            _ => self.flush(),
        }
    }

    fn say(&mut self, text: &str) {
        self.line.push(match self.font {
            Font::Roman => roman(text),
            Font::Bold => bold(text),
            Font::Italic => italic(text),
        });
    }

    fn verbatim(&mut self, text: &str) {
        for line in text.lines() {
            self.roff.text([roman(line)]);
        }
    }

    fn flush(&mut self) {
        if !self.line.is_empty() {
            self.roff.text(std::mem::take(&mut self.line));
        }
    }
}
