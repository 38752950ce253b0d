//! The manual page: roff with the `man` macros, from the tables of commands, options, settings,
//! variables and exit codes.

use super::table::{COMMANDS, GLOBAL_OPTIONS, Opt};
use crate::config::table::{SECTIONS, VARIABLES};
use crate::exit;
use crate::provider::KNOWN;
use crate::text::wrap;

/// When the page last changed in a way that readers notice: not the time of the build, which is to be
/// reproducible.
const DATE: &str = "2026-11-27";

/// Longer lines of a page are against its style, by mandoc.
const WIDTH: usize = 78;

/// The page in roff, as `man -l -` reads it.
#[inline(never)]
pub(super) fn page() -> String {
    let mut page = format!(
        ".TH PRX 1 {DATE} \"prx {}\" \"User Commands\"\n",
        env!("CARGO_PKG_VERSION")
    );
    section(&mut page, "NAME");
    page += "prx \\- an AI assistant for Mattermost that answers every message exactly once\n";
    section(&mut page, "SYNOPSIS");
    page += ".B prx\n[\\fICOMMAND\\fR] [\\fIOPTION\\fR]...\n";
    section(&mut page, "DESCRIPTION");
    page += &paragraph(
        "prx reads the channels of a Mattermost server that its bot account is in, asks a language \
         model, and answers in the thread.",
    );
    page += ".PP\n";
    page += &paragraph(
        "Without a command it runs until it is stopped. It may be killed at any moment; started \
         again, it goes on where it was. While one instance is at work, another with the same \
         configuration ends at once with exit code 0, so that cron can start it every minute.",
    );
    section(&mut page, "COMMANDS");
    for spec in COMMANDS {
        item(&mut page, &bold(&spec.usage()), &sentence(spec.summary));
        for alias in spec.aliases {
            page += &format!("The same: prx {}.\n", roff(alias));
        }
        options(&mut page, spec.options);
        page += &format!(
            ".IP\n{}",
            paragraph(&format!("Example: `{}`", spec.example))
        );
    }
    section(&mut page, "OPTIONS");
    options_at_top(&mut page, GLOBAL_OPTIONS);
    settings(&mut page);
    providers(&mut page);
    section(&mut page, "ENVIRONMENT");
    for (names, meaning) in VARIABLES {
        item(&mut page, &roff(names), &sentence(meaning));
    }
    section(&mut page, "EXIT STATUS");
    for (code, meaning) in exit::CODES {
        item(&mut page, &format!(".B {code}"), &sentence(meaning));
    }
    section(&mut page, "FILES");
    page += ".TP\n.I ~/.openprx/config.toml\nThe configuration, unless \\-\\-config or \
             $OPENPRX_CONFIG_DIR names another.\n\
             .TP\n.I ~/.openprx/config.state.json\nWhat the bot has read and answered.\n";
    page
}

/// Every setting, by the table it stands in.
fn settings(page: &mut String) {
    section(page, "CONFIGURATION");
    *page += &paragraph(
        "The file is TOML. Keys that are not listed here are ignored, so that a file of PRX can be \
         used as it is.",
    );
    for table in SECTIONS {
        let header = match table.header {
            "" => "Top of the file".to_owned(),
            header => format!("[{header}]"),
        };
        *page += &format!(".SS {}\n", roff(&header));
        if !table.note.is_empty() {
            *page += &sentence(table.note);
        }
        for setting in table.settings {
            let (default, range) = (setting.default(), setting.range());
            let default = match default.as_str() {
                "" => default,
                default => format!("default: {default}"),
            };
            let mut facts = vec![range, default];
            facts.retain(|fact| !fact.is_empty());
            let facts = match facts.join("; ") {
                facts if facts.is_empty() => facts,
                facts => format!(" ({facts})"),
            };
            let meaning = match setting.meaning {
                "" => ".sp\n".to_owned(),
                meaning => sentence(meaning),
            };
            item(page, &(bold(setting.name) + &roff(&facts)), &meaning);
        }
    }
}

/// What can be written as `default_provider`.
fn providers(page: &mut String) {
    section(page, "PROVIDERS");
    for known in KNOWN {
        let text = match known.key_variables {
            [] => known.base.to_owned(),
            keys => format!("{}; its key may be in {}", known.base, keys.join(" or ")),
        };
        item(page, &bold(known.name), &paragraph(&text));
    }
    for (name, meaning) in [
        ("custom:URL", "any other server with OpenAI's API"),
        ("anthropic-custom:URL", "one with Anthropic's API"),
        ("command", "the program of `provider_command`"),
        ("echo", "repeats what it is told"),
    ] {
        item(page, &bold(name), &sentence(meaning));
    }
}

/// A name and what is said about it, indented.
fn item(page: &mut String, name: &str, text: &str) {
    *page += &format!(".TP\n{name}\n{text}");
}

fn bold(name: &str) -> String {
    format!("\\fB{}\\fR", roff(name))
}

fn section(page: &mut String, name: &str) {
    *page += &format!(".SH {name}\n");
}

/// A command's own options, below its text.
fn options(page: &mut String, options: &[Opt]) {
    if options.is_empty() {
        return;
    }
    *page += ".RS\n";
    options_at_top(page, options);
    *page += ".RE\n";
}

fn options_at_top(page: &mut String, options: &[Opt]) {
    for option in options {
        let mut name = bold(option.name);
        if !option.short.is_empty() {
            name = format!("{}, {name}", bold(option.short));
        }
        if !option.value.name().is_empty() {
            name += &format!(" \\fI{}\\fR", option.value.name());
        }
        item(page, &name, &sentence(option.summary));
    }
}

/// `text` with a capital and a full stop, as a paragraph.
fn sentence(text: &str) -> String {
    let mut characters = text.chars();
    let first = characters.next();
    let first = first.map(|first| first.to_uppercase().to_string());
    let first = first.unwrap_or_default();
    paragraph(&format!("{first}{}.", characters.as_str()))
}

/// `text` in lines that mandoc does not find too long.
fn paragraph(text: &str) -> String {
    let mut lines = String::new();
    for line in wrap(&roff(text), WIDTH) {
        // A full stop at a line's beginning would be a request.
        let guard = if line.starts_with('.') { "\\&" } else { "" };
        lines += &format!("{guard}{line}\n");
    }
    lines
}

/// `text` of the README's tables: code in bold, links as the names of sections, those in parentheses
/// left out, as they say more than the page does, and nothing that roff obeys.
pub(super) fn roff(text: &str) -> String {
    let mut roff = String::with_capacity(text.len());
    let mut is_code = false;
    let mut rest = text;
    while let Some(character) = rest.chars().next() {
        rest = &rest[character.len_utf8()..];
        match character {
            '`' => {
                is_code = !is_code;
                roff += if is_code { "\\fB" } else { "\\fR" };
            }
            ' ' if rest.starts_with("([") && rest.contains("](#") => {
                rest = rest.split_once("))").map_or("", |(_, after)| after);
            }
            '[' if !is_code && rest.contains("](#") => {
                let (name, link) = rest.split_once("](#").unwrap_or_default();
                roff += &name.to_uppercase();
                rest = link.split_once(')').map_or("", |(_, after)| after);
            }
            '\\' => roff += "\\e",
            '-' => roff += "\\-",
            '\'' => roff += "\\(aq",
            character => roff.push(character),
        }
    }
    roff
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_the_readme_becomes_text_of_a_manual() {
        let cases = [
            ("a `b` c", "a \\fBb\\fR c"),
            ("see [Providers](#providers), too", "see PROVIDERS, too"),
            (
                "it is previewed ([Safety](#safety)), or",
                "it is previewed, or",
            ),
            ("`[table]` or [x]", "\\fB[table]\\fR or [x]"),
            ("the bot's a\\b-c", "the bot\\(aqs a\\eb\\-c"),
        ];
        for (text, expected) in cases {
            assert_eq!(roff(text), expected);
        }
    }

    #[test]
    fn the_page_refers_to_no_section_that_it_does_not_have() {
        let settings = SECTIONS.iter().flat_map(|section| section.settings);
        let texts = settings.flat_map(|setting| [setting.range(), setting.meaning.to_owned()]);
        let texts: Vec<String> = texts
            .chain(VARIABLES.iter().map(|(_, meaning)| (*meaning).to_owned()))
            .collect();
        let page = page();
        let links = texts.iter().flat_map(|text| text.split("](#").skip(1));
        for name in links.map(|rest| rest.split(')').next().unwrap_or_default()) {
            let (name, lower) = (name.to_uppercase(), name.to_lowercase());
            let is_there = page.contains(&format!(".SH {name}\n"));
            let is_named =
                page.contains(&name) || page.to_lowercase().contains(&format!("({lower})"));
            assert!(is_there || !is_named, "{name}");
        }
    }
}
