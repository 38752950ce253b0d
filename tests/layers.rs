//! The shape of `src`: a file uses only what lies below it, and no function is longer than a page.
//! `cargo test layers:: -- --nocapture` prints the layers.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// From the top. A name is a file or a folder of `src`, or both; within a folder its files may use
/// each other.
const LAYERS: &[&[&str]] = &[
    &["cli"],
    &["commands"],
    &["bot"],
    &["outbox"],
    &["inbox"],
    &["outage", "state", "worker"],
    &["answers", "filetext"],
    &["conversation"],
    &["filter", "reload"],
    &[
        "choices", "config", "desk", "copies", "cursor", "limits", "reply", "words",
    ],
    &["mattermost", "provider"],
    &["http", "secret", "url"],
    &[
        "base64", "exit", "growing", "json", "nearest", "pipes", "sorted", "text", "times",
    ],
];

/// What uses what, and in which file.
type Uses = BTreeMap<String, BTreeMap<String, PathBuf>>;

fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// The Rust files of a folder and those below it.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("a folder");
    let mut paths: Vec<_> = entries
        .map(|entry| entry.expect("an entry").path())
        .collect();
    paths.sort();
    let inner = paths.iter().filter(|path| path.is_dir());
    let inner: Vec<_> = inner.flat_map(|folder| files(folder)).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "rs"));
    paths.extend(inner);
    paths
}

/// The file or folder of `src` that `path`, as in `inbox/read`, is or lies below.
fn unit(path: &str) -> &str {
    path.split('/').next().unwrap_or_default()
}

/// A file's text up to its tests, which are its end.
fn without_tests(text: &str) -> &str {
    let code = text.split("\n#[cfg(test)]\nmod tests {").next();
    code.unwrap_or_default()
}

/// The paths behind each `crate::` in a file, without its tests.
fn used(text: &str) -> Vec<String> {
    let lines = without_tests(text).lines();
    let code = lines.filter(|line| !line.trim_start().starts_with("//"));
    let mut used = Vec::new();
    for line in code {
        for path in line.split("crate::").skip(1) {
            assert!(!path.starts_with('{'), "one path in each `use`: {line}");
            let is_name = |c: char| c.is_ascii_lowercase() || c == '_' || c == ':';
            let end = path.find(|c| !is_name(c)).unwrap_or(path.len());
            used.push(path[..end].trim_end_matches(':').replace("::", "/"));
        }
    }
    used
}

fn uses() -> Uses {
    let (root, mut uses) = (sources(), Uses::new());
    for file in files(&root) {
        let path = file.strip_prefix(&root).expect("a path below");
        let name = path.with_extension("").display().to_string();
        if ["lib", "main", "build"].contains(&&name[..]) || name.ends_with("tests") {
            continue;
        }
        let from = unit(&name);
        let text = fs::read_to_string(&file).expect("a text");
        let below = uses.entry(from.to_owned()).or_default();
        for to in used(&text) {
            let to = unit(&to);
            if to != from {
                below
                    .entry(to.to_owned())
                    .or_insert_with(|| path.to_owned());
            }
        }
    }
    uses
}

#[test]
fn a_file_uses_only_what_lies_below_it() {
    for (number, names) in LAYERS.iter().enumerate() {
        println!("{:>2}  {}", LAYERS.len() - number, names.join("  "));
    }
    let layer = |name: &str| LAYERS.iter().position(|layer| layer.contains(&name));
    let mut wrong = Vec::new();
    for (from, below) in uses() {
        for (to, file) in below {
            // Where each arrow points downward there is no circle.
            if layer(&to).is_some_and(|to| layer(&from) >= Some(to)) {
                wrong.push(format!(
                    "src/{} uses {to}, which is not below {from}",
                    file.display()
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The loop waits for no model and shows no model's server what it knows.
#[test]
fn a_model_is_asked_by_workers_and_commands_alone() {
    let root = sources();
    let asks = |file: &PathBuf| {
        let text = fs::read_to_string(file).expect("a text");
        let code = without_tests(&text);
        code.contains("provider::ask") || code.contains("provider::models")
    };
    let names = files(&root).into_iter().filter(asks).map(|file| {
        let path = file.strip_prefix(&root).expect("a path below");
        path.with_extension("").display().to_string()
    });
    let names: BTreeSet<String> = names.filter(|name| unit(name) != "provider").collect();
    let expected = [
        "commands/answer",
        "commands/ask",
        "commands/doctor/model",
        "commands/init/model",
        "worker",
    ];
    assert_eq!(names, expected.map(String::from).into());
}

#[test]
fn each_file_has_its_layer() {
    let uses = uses();
    let listed: BTreeSet<&str> = LAYERS.iter().copied().flatten().copied().collect();
    let there: BTreeSet<&str> = uses.keys().map(String::as_str).collect();
    let without: Vec<_> = there.difference(&listed).collect();
    assert!(without.is_empty(), "in which layer are {without:?}?");
    let gone: Vec<_> = listed.difference(&there).collect();
    assert!(gone.is_empty(), "there is no {gone:?}");
}

/// Links to modules are rustdoc's to check.
#[test]
fn the_files_that_the_librarys_page_names_are_there() {
    let page = fs::read_to_string(sources().join("lib.rs")).expect("a text");
    let spans = page.split('`').skip(1).step_by(2);
    let is_path = |span: &&str| span.contains('/') && !span.contains('\n');
    let paths: Vec<&str> = spans.filter(is_path).collect();
    assert!(paths.len() >= 20, "{paths:?}");
    for path in paths {
        let found = [sources(), sources().join("..")].map(|folder| folder.join(path).exists());
        assert!(found.contains(&true), "{path}");
    }
}

/// Sockets, child processes and people are waited for in real time; nothing else is.
#[test]
fn the_loop_knows_no_time_but_its_clocks() {
    const REAL: [&str; 8] = [
        "cli", "commands", "desk", "http", "pipes", "provider", "times", "worker",
    ];
    let root = sources();
    let mut wrong = Vec::new();
    for file in files(&root) {
        let path = file.strip_prefix(&root).expect("a path below");
        let text = fs::read_to_string(&file).expect("a text");
        let name = path.with_extension("").display().to_string();
        let asks = |sign: &&str| without_tests(&text).contains(*sign);
        let signs = ["Instant::now", "SystemTime::now", "thread::sleep"];
        if !REAL.contains(&unit(&name)) && !name.ends_with("tests") {
            let asks = signs.iter().filter(|sign| asks(sign));
            wrong.extend(asks.map(|sign| format!("src/{} uses {sign}", path.display())));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Lines of the longest function.
const LONGEST: usize = 60;

/// Each function in `text` with its number of lines. It ends with the first brace below its `fn`.
fn functions(text: &str) -> Vec<(String, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut functions = Vec::new();
    for (number, line) in lines.iter().enumerate() {
        let code = line.trim_start();
        let indent = &line[..line.len() - code.len()];
        let words: Vec<&str> = code.split_whitespace().collect();
        let at = words.iter().position(|word| *word == "fn");
        let Some(name) = at.filter(|at| *at <= 2).and_then(|at| words.get(at + 1)) else {
            continue;
        };
        let rest = lines[number..].iter();
        let is_end = |line: &&str| line.strip_prefix(indent) == Some("}");
        let is_short = code.ends_with(['}', ';']);
        let last = rest.clone().position(is_end).filter(|_| !is_short);
        let name = name.split(['(', '<']).next().unwrap_or_default();
        functions.push((name.to_owned(), last.unwrap_or(0) + 1));
    }
    functions
}

#[test]
fn no_function_is_longer_than_a_page() {
    let mut longer = Vec::new();
    let mut count = 0;
    for file in files(&sources()) {
        let text = fs::read_to_string(&file).expect("a text");
        if file.ends_with("tests.rs") {
            continue;
        }
        for (name, lines) in functions(without_tests(&text)) {
            count += 1;
            if lines > LONGEST {
                longer.push(format!("{}: {name} has {lines} lines", file.display()));
            }
        }
    }
    assert!(count > 1000, "{count} functions");
    assert!(longer.is_empty(), "{}", longer.join("\n"));
}
