//! TOML files laid one over the other, read value by value: every value knows its file and its line.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use super::error::{Findings, LAST, Weight, at};
use super::table::{self, Kind, Setting};
use crate::sorted::Set;
use crate::text::Problem;

/// One parsed file.
pub(super) struct File<'a> {
    pub(super) path: &'a Path,
    text: &'a str,
    table: DeTable<'a>,
    /// The config file is the first.
    number: usize,
    findings: &'a Findings,
}

impl<'a> File<'a> {
    /// The files that are TOML.
    pub(super) fn parse_all(
        texts: &'a [(PathBuf, String)],
        findings: &'a Findings,
    ) -> Vec<File<'a>> {
        let mut files = Vec::new();
        for (number, (path, text)) in texts.iter().enumerate() {
            match DeTable::parse(text) {
                Ok(table) => files.push(File {
                    path,
                    text,
                    table: table.into_inner(),
                    number,
                    findings,
                }),
                Err(error) => {
                    let offset = error.span().map_or(0, |span| span.start);
                    // The message is made of fixed texts: it quotes nothing of the file.
                    let what = format!("is not TOML: {}", error.message());
                    let place = place(path, text.as_bytes(), offset);
                    let problem = at(place, Problem::new(what, ""));
                    findings.add((number, offset), Weight::Fatal, problem);
                }
            }
        }
        files
    }
}

/// A table as all the files together give it: what a later file says holds.
pub(super) struct Table<'a> {
    /// Dotted, with a dot at its end; empty for the top level.
    pub(super) name: String,
    /// The name of its section in the table of settings.
    header: String,
    /// The config file.
    main: &'a File<'a>,
    /// The files that have the table, the last one first.
    pub(super) layers: Vec<(&'a File<'a>, &'a DeTable<'a>)>,
}

impl<'a> Table<'a> {
    /// The top of the config file, the first of `files`, with the others laid over it.
    pub(super) fn top(files: &'a [File<'a>]) -> Table<'a> {
        let layers = files.iter().rev().map(|file| (file, &file.table));
        Table {
            name: String::new(),
            header: String::new(),
            main: &files[0],
            layers: layers.collect(),
        }
    }

    pub(super) fn get(&self, key: &str) -> Option<Value<'a>> {
        self.values(key).next()
    }

    fn values(&self, key: &str) -> impl Iterator<Item = Value<'a>> {
        self.layers.iter().filter_map(move |(file, table)| {
            let value = table.get(key)?;
            let name = format!("{}{}", self.name, key.escape_debug());
            Some(Value {
                name,
                file,
                offset: value.span().start,
                value: value.get_ref(),
            })
        })
    }

    /// The table at `key`; an empty one if there is none.
    pub(super) fn table(&self, key: &str) -> Table<'a> {
        let layers = self.values(key).filter_map(|value| match value.value {
            DeValue::Table(table) => Some((value.file, table)),
            _ => {
                value.wrong("must be a table", format!("write [{}]", value.name));
                None
            }
        });
        Table {
            name: format!("{}{}.", self.name, key.escape_debug()),
            header: table::below(&self.header, key),
            main: self.main,
            layers: layers.collect(),
        }
    }

    /// The text at `key`, without white space around it; `None` also if that is empty.
    pub(super) fn text(&self, key: &str) -> Option<&'a str> {
        let text = self.get(key)?.text();
        (!text.is_empty()).then_some(text)
    }

    /// The values of the list at `key`; none if there is no such key.
    pub(super) fn items(&self, key: &str) -> Vec<Value<'a>> {
        self.get(key).map_or_else(Vec::new, Value::items)
    }

    /// The texts of the list at `key`, without blank ones.
    pub(super) fn texts(&self, key: &str) -> Vec<String> {
        let texts = self.items(key).into_iter().map(|item| item.text());
        let texts = texts.filter(|text| !text.is_empty());
        texts.map(str::to_owned).collect()
    }

    /// The settings that the table can have.
    pub(super) fn settings(&self) -> &'static [Setting] {
        table::section(&self.header).map_or(&[], |section| section.settings)
    }

    /// The names of the tables that the table can have.
    pub(super) fn tables(&self) -> impl Iterator<Item = &'static str> {
        table::tables(&self.header)
    }

    /// The keys of all layers.
    pub(super) fn keys(&self) -> Set<String> {
        let keys = self.layers.iter().flat_map(|(_, layer)| layer.keys());
        keys.map(|key| key.get_ref().to_string()).collect()
    }

    /// The keys of all layers with the values that hold.
    pub(super) fn entries(&self) -> impl Iterator<Item = (String, Value<'a>)> {
        let keys = self.keys().into_iter();
        keys.filter_map(|key| self.get(&key).map(|value| (key, value)))
    }

    fn kind(&self, key: &str) -> Option<&'static Kind> {
        let mut settings = self.settings().iter();
        Some(&settings.find(|setting| setting.name == key)?.kind)
    }

    /// `true` or `false` at `key`; else `instead`, or what the table of settings says.
    pub(super) fn flag(&self, key: &str, instead: Option<bool>) -> bool {
        let default = match (instead, self.kind(key)) {
            (Some(instead), _) => instead,
            (None, Some(Kind::Flag(default))) => *default,
            _ => self.unknown(key),
        };
        let Some(value) = self.get(key) else {
            return default;
        };
        let DeValue::Boolean(flag) = value.value else {
            value.wrong("must be true or false, without quotes", "");
            return default;
        };
        *flag
    }

    /// The whole number at `key`, within the range of the table of settings.
    pub(super) fn whole(&self, key: &str) -> u64 {
        let Some(Kind::Whole(default, range)) = self.kind(key) else {
            return self.unknown(key);
        };
        let Some(value) = self.get(key) else {
            return *default;
        };
        let number = match value.value {
            DeValue::Integer(number) => u64::from_str_radix(number.as_str(), number.radix()).ok(),
            _ => None,
        };
        let number = value.within(number, range, "whole number");
        number.unwrap_or(*default)
    }

    /// The number at `key`, with a fraction or not, within the range of the table of settings.
    pub(super) fn number(&self, key: &str) -> Option<f64> {
        let Some(Kind::Number(default, range)) = self.kind(key) else {
            return self.unknown(key);
        };
        let Some(value) = self.get(key) else {
            return *default;
        };
        let number: Option<f64> = match value.value {
            DeValue::Integer(number) if number.radix() == 10 => number.as_str().parse().ok(),
            DeValue::Float(number) => number.as_str().parse().ok(),
            _ => None,
        };
        value.within(number, range, "number").or(*default)
    }

    /// A setting that is read and is not in the table: a test that reads any config finds it.
    fn unknown<T: Default>(&self, key: &str) -> T {
        self.wrong(key, Problem::new("is not in the table of settings", ""));
        T::default()
    }

    /// A problem with the value at `key`, or with there being none, for which nothing can run.
    pub(super) fn wrong(&self, key: &str, problem: Problem) {
        self.find(key, Weight::Fatal, problem);
    }

    /// A problem with the value at `key`, or with there being none.
    pub(super) fn find(&self, key: &str, weight: Weight, problem: Problem) {
        if let Some(value) = self.get(key) {
            return value.find(weight, problem);
        }
        let file = self.layers.first().map_or(self.main, |(file, _)| file);
        let place = format!("{}: {}{key}", file.path.display(), self.name);
        file.findings.add(LAST, weight, at(place, problem));
    }
}

/// A value and where it stands.
pub(super) struct Value<'a> {
    /// The key, dotted.
    pub(super) name: String,
    pub(super) file: &'a File<'a>,
    offset: usize,
    pub(super) value: &'a DeValue<'a>,
}

impl<'a> Value<'a> {
    /// The text, without white space around it; empty for anything else, which is a problem.
    pub(super) fn text(&self) -> &'a str {
        self.verbatim().trim()
    }

    pub(super) fn verbatim(&self) -> &'a str {
        if let DeValue::String(text) = self.value {
            return text;
        }
        self.wrong("must be a text", "write it in quotes");
        ""
    }

    /// The values of an array; a text alone is an array of one.
    pub(super) fn items(self) -> Vec<Value<'a>> {
        match self.value {
            DeValue::String(_) => vec![self],
            DeValue::Array(values) => {
                let items = values.iter().map(|value| Value {
                    name: self.name.clone(),
                    file: self.file,
                    offset: value.span().start,
                    value: value.get_ref(),
                });
                items.collect()
            }
            _ => {
                self.wrong("must be a list of texts", "write [\"one\", \"two\"]");
                Vec::new()
            }
        }
    }

    /// The `number` that the value is, a `kind` of number, if it is one and in the range.
    fn within<T: PartialOrd + Display>(
        &self,
        number: Option<T>,
        range: &RangeInclusive<T>,
        kind: &str,
    ) -> Option<T> {
        let number = number.filter(|number| range.contains(number));
        if number.is_none() {
            let (least, most) = (range.start(), range.end());
            let what = format!("must be a {kind} from {least} to {most}, without quotes");
            self.wrong(what, "");
        }
        number
    }

    /// What is wrong with the value, so that nothing can run, and what to write instead.
    pub(super) fn wrong(&self, what: impl Into<String>, fix: impl Into<String>) {
        self.find(Weight::Fatal, Problem::new(what, fix));
    }

    /// What was made of the value; nothing if that was a problem.
    pub(super) fn accept<T>(&self, result: Result<T, Problem>) -> Option<T> {
        let found = |problem| self.find(Weight::Fatal, problem);
        result.map_err(found).ok()
    }

    /// The problem, with the value's place.
    pub(super) fn find(&self, weight: Weight, problem: Problem) {
        let place = place(self.file.path, self.file.text.as_bytes(), self.offset);
        let problem = at(format!("{place}: {}", self.name), problem);
        let position = (self.file.number, self.offset);
        self.file.findings.add(position, weight, problem);
    }
}

/// The file at `path` and the line in which the byte at `offset` of its text stands.
pub(super) fn place(path: &Path, text: &[u8], offset: usize) -> String {
    let before = &text[..offset.min(text.len())];
    let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
    format!("{}:{line}", path.display())
}
