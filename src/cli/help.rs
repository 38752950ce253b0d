//! The help texts: of the program, and of each command.

use std::env;

use super::table::{COMMANDS, DEFAULT, GLOBAL_OPTIONS, Opt, Spec};

/// What `prx --help` prints.
pub(super) fn general() -> String {
    let mut text = format!(
        "{}\nAn AI assistant for Mattermost that answers every message exactly once.\n\n\
         Usage: prx [COMMAND] [OPTION]...\n\nCommands:\n",
        version().trim_end()
    );
    for spec in COMMANDS {
        text += &format!("  {:<20} {}\n", spec.name, spec.summary);
    }
    text += "  help COMMAND         print the options of a command\n\nOptions:\n";
    for option in GLOBAL_OPTIONS {
        text += &line(option);
    }
    text + &format!(
        "\nThe configuration is read from --config, else from\n\
         $OPENPRX_CONFIG_DIR/config.toml, else from ~/.openprx/config.toml.\n\n\
         Example: {}\n",
        DEFAULT.example
    )
}

/// What `prx COMMAND --help` prints.
pub(super) fn of(spec: &Spec) -> String {
    let mut text = format!(
        "{}\n\nUsage: prx {} [OPTION]...\n",
        spec.summary,
        spec.usage()
    );
    for alias in spec.aliases {
        text += &format!("       prx {alias}\n");
    }
    text += "\nOptions:\n";
    for option in spec.all_options() {
        text += &line(option);
    }
    text + &format!("\nExample: {}\n", spec.example)
}

fn line(option: &Opt) -> String {
    let comma = if option.short.is_empty() {
        "    "
    } else {
        ", "
    };
    let name = format!(
        "{}{comma}{} {}",
        option.short,
        option.name,
        option.value.name()
    );
    format!("  {name:<22} {}\n", option.summary)
}

/// What `prx --version` prints.
pub(super) fn version() -> String {
    let environment = if cfg!(target_env = "musl") {
        "-musl"
    } else {
        ""
    };
    let (version, os) = (env!("CARGO_PKG_VERSION"), env::consts::OS);
    format!("prx {version} ({}-{os}{environment})\n", env::consts::ARCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_help_text_fits_a_terminal_and_has_an_example() {
        let texts = COMMANDS.iter().map(of).chain([general()]);
        for text in texts {
            assert!(text.lines().count() <= 30, "{text}");
            assert!(
                text.lines().all(|line| line.chars().count() <= 80),
                "{text}"
            );
            assert!(
                text.contains("Example: ") && text.contains("prx "),
                "{text}"
            );
        }
    }
}
