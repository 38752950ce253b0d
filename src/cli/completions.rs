//! Completions for bash, zsh and fish, from the table of commands and options.
//!
//! Each script joins the words before the cursor that are no options and no values of options: these
//! say which command it is, and what may follow.

use super::table::{COMMANDS, GLOBAL_OPTIONS, Opt, Spec, Value, all_options, command_names};

/// The script for the shell of that name, one of `table::SHELLS`.
#[inline(never)]
pub(super) fn script(shell: &str) -> String {
    match shell {
        "zsh" => zsh(),
        "fish" => fish(),
        _ => bash(),
    }
}

/// What may follow these words, besides options: each word with its summary.
struct Next {
    after: Vec<&'static str>,
    words: Vec<(&'static str, &'static str)>,
}

fn nexts() -> Vec<Next> {
    let mut first: Vec<(&str, &str)> = Vec::new();
    let mut nexts = Vec::new();
    for spec in COMMANDS {
        for name in spec.names() {
            let (word, rest) = name.split_once(' ').unwrap_or((name, ""));
            if first.iter().all(|(known, _)| *known != word) {
                first.push((word, spec.summary));
            }
            if !rest.is_empty() {
                nexts.push(Next {
                    after: vec![word],
                    words: vec![(rest, spec.summary)],
                });
            }
        }
        let words = spec.operands.iter().flat_map(|operand| operand.words);
        let words: Vec<_> = words.map(|word| (*word, "")).collect();
        if !words.is_empty() {
            let after = spec.names().collect();
            nexts.push(Next { after, words });
        }
    }
    nexts.push(Next {
        after: vec!["help"],
        words: first.clone(),
    });
    first.push(("help", "print the options of a command"));
    nexts.push(Next {
        after: vec![""],
        words: first,
    });
    nexts
}

/// The words that a command's own options may follow: its names, for the first also no name.
fn begins(spec: &Spec) -> Vec<&'static str> {
    let none = command_names().next() == Some(spec.name);
    none.then_some("").into_iter().chain(spec.names()).collect()
}

/// All options that take a value, each once.
fn valued() -> Vec<&'static Opt> {
    let mut valued: Vec<&Opt> = all_options().collect();
    valued.retain(|option| option.value != Value::None);
    valued.sort_by_key(|option| option.name);
    valued.dedup_by_key(|option| option.name);
    valued
}

fn names<'a>(options: impl IntoIterator<Item = &'a Opt>, between: &str) -> String {
    let names = options.into_iter().map(|option| option.name);
    joined(names, between)
}

fn joined<T: AsRef<str>>(texts: impl IntoIterator<Item = T>, between: &str) -> String {
    let mut joined = String::new();
    for (number, text) in texts.into_iter().enumerate() {
        joined += if number == 0 { "" } else { between };
        joined += text.as_ref();
    }
    joined
}

/// The options with a value, those with a file first: as shell patterns.
fn patterns() -> (String, String) {
    let (files, texts): (Vec<&Opt>, Vec<&Opt>) = valued()
        .into_iter()
        .partition(|option| option.value == Value::File);
    (names(files, "|"), names(texts, "|"))
}

/// `text` as one word of a shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// Shell patterns that match the command alone, and with words after it.
fn prefixes(names: &[&str]) -> String {
    let patterns = names.iter().flat_map(|name| match *name {
        "" => vec!["''".to_owned()],
        name => vec![quoted(name), format!("{}*", quoted(&format!("{name} ")))],
    });
    joined(patterns, "|")
}

fn bash() -> String {
    let (files, texts) = patterns();
    let mut script = format!(
        r#"# bash completion of prx: source it, or write it to /etc/bash_completion.d/prx
_prx() {{
    local cur=${{COMP_WORDS[COMP_CWORD]}} prev=${{COMP_WORDS[COMP_CWORD-1]}}
    local command='' words='' options='' i
    [[ $prev == = ]] && prev=${{COMP_WORDS[COMP_CWORD-2]}}
    [[ $cur == = ]] && prev=${{COMP_WORDS[COMP_CWORD-1]}} cur=''
    for ((i = 1; i < COMP_CWORD; i++)); do
        case ${{COMP_WORDS[i]}} in
            {files}|{texts})
                [[ ${{COMP_WORDS[i+1]}} == = ]] && ((i++))
                ((i++)) ;;
            -*|=) ;;
            *) command+="${{command:+ }}${{COMP_WORDS[i]}}" ;;
        esac
    done
    COMPREPLY=()
    case $prev in
        {files})
            compopt -o filenames 2>/dev/null
            mapfile -t COMPREPLY < <(compgen -f -- "$cur")
            return ;;
        {texts}) return ;;
    esac
    case $command in
"#
    );
    for next in nexts() {
        let after = joined(next.after.iter().map(|after| quoted(after)), "|");
        let words = joined(next.words.iter().map(|(word, _)| word), " ");
        script += &format!("        {after}) words='{words}' ;;\n");
    }
    script += "    esac\n    case $command in\n";
    for spec in COMMANDS.iter().filter(|spec| !spec.options.is_empty()) {
        let (words, names) = (prefixes(&begins(spec)), names(spec.options, " "));
        script += &format!("        {words}) options='{names}' ;;\n");
    }
    let long = GLOBAL_OPTIONS.iter().map(|option| option.name);
    let short = GLOBAL_OPTIONS.iter().map(|option| option.short);
    let global = long.chain(short.filter(|name| !name.is_empty()));
    script
        + &format!(
            r#"    esac
    mapfile -t COMPREPLY < <(compgen -W "$words $options {}" -- "$cur")
}}
complete -F _prx prx
"#,
            joined(global, " ")
        )
}

fn zsh() -> String {
    let (files, texts) = patterns();
    let mut script = format!(
        r#"#compdef prx
# zsh completion of prx: write it to a file _prx in a folder of $fpath
_prx() {{
    local command='' i
    local -a nexts flags
    for ((i = 2; i < CURRENT; i++)); do
        case $words[i] in
            ({files}|{texts}) ((i++)) ;;
            (-*) ;;
            (*) command+="${{command:+ }}$words[i]" ;;
        esac
    done
    case $words[CURRENT-1] in
        ({files}) _files; return ;;
        ({texts}) return ;;
    esac
    case $command in
"#
    );
    for next in nexts() {
        let after = joined(next.after.iter().map(|after| quoted(after)), "|");
        let words = next.words.iter();
        let words = joined(words.map(|(word, summary)| described(word, summary)), " ");
        script += &format!("        ({after}) nexts=({words}) ;;\n");
    }
    script += "    esac\n    case $command in\n";
    for spec in COMMANDS.iter().filter(|spec| !spec.options.is_empty()) {
        let (words, options) = (prefixes(&begins(spec)), zsh_options(spec.options));
        script += &format!("        ({words}) flags=({options}) ;;\n");
    }
    script
        + &format!(
            r#"    esac
    flags+=({})
    (( $#nexts )) && _describe -t commands 'prx command' nexts
    _describe -o -t options 'option' flags
}}
if [[ $funcstack[1] == _prx ]]; then
    _prx "$@"
else
    compdef _prx prx
fi
"#,
            zsh_options(GLOBAL_OPTIONS)
        )
}

/// For zsh's `_describe`.
fn described(word: &str, summary: &str) -> String {
    if summary.is_empty() {
        return quoted(word);
    }
    quoted(&format!("{word}:{}", summary.replace(':', r"\:")))
}

fn zsh_options(options: &[Opt]) -> String {
    let described = options.iter().flat_map(|option| {
        let names = [option.name, option.short].into_iter();
        let names = names.filter(|name| !name.is_empty());
        names.map(|name| described(name, option.summary))
    });
    joined(described, " ")
}

/// Which command it is, for fish. The options with a value stand where `OPTIONS` is.
const FISH: &str = r#"# fish completion of prx: write it to ~/.config/fish/completions/prx.fish
function __prx_command
    set -l command
    set -l value no
    for word in (commandline -opc)[2..-1]
        if test $value = yes
            set value no
            continue
        end
        switch $word
            case OPTIONS
                set value yes
            case '-*'
            case '*'
                set -a command $word
        end
    end
    echo "$command"
end
function __prx_at
    set -l command (__prx_command)
    contains -- "$command" $argv
end
function __prx_in
    set -l command (__prx_command)
    for name in $argv
        if test "$command" = "$name"
            return 0
        end
        if test -n "$name"; and string match -q -- "$name *" "$command"
            return 0
        end
    end
    return 1
end
complete -c prx -f
"#;

fn fish() -> String {
    let mut script = FISH.replace("OPTIONS", &names(valued(), " "));
    for next in nexts() {
        let after = joined(next.after.iter().map(|after| format!("\"{after}\"")), " ");
        for (word, summary) in next.words {
            let summary = fish_quoted(summary);
            script += &format!("complete -c prx -n '__prx_at {after}' -a {word} -d {summary}\n");
        }
    }
    for option in GLOBAL_OPTIONS {
        script += &fish_option(option, "");
    }
    for spec in COMMANDS {
        let begins = begins(spec).into_iter();
        let begins = joined(begins.map(|name| format!("\"{name}\"")), " ");
        let condition = format!(" -n '__prx_in {begins}'");
        for option in spec.options {
            script += &fish_option(option, &condition);
        }
    }
    script
}

fn fish_option(option: &Opt, condition: &str) -> String {
    let short = match option.short.strip_prefix('-') {
        Some(letter) => format!(" -s {letter}"),
        None => String::new(),
    };
    let value = match option.value {
        Value::None => "",
        Value::File => " -r -F",
        Value::Text(_) => " -x",
    };
    let name = option.name.trim_start_matches('-');
    let summary = fish_quoted(option.summary);
    format!("complete -c prx{condition}{short} -l {name}{value} -d {summary}\n")
}

fn fish_quoted(text: &str) -> String {
    format!("'{}'", text.replace('\\', r"\\").replace('\'', r"\'"))
}
