//! A disk that is really full, and a folder that really cannot be written, under the built binary.
//!
//! They are mounted in a namespace of their own, which ends with the test.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::support::bot::{Bot, ECHO, Ran, Stage, binary_at, binary_path, run};
use crate::support::skipped;

/// A small file system that only processes in its namespace see.
struct Disk {
    /// Keeps the namespace, until the end of its standard input.
    keeper: Child,
    /// As the processes in it call it.
    folder: PathBuf,
}

impl Disk {
    /// Mounts one, where that is allowed.
    fn mount(folder: PathBuf) -> Option<Disk> {
        fs::create_dir(&folder).expect("a folder");
        let script = "mount -t tmpfs -o size=64k,mode=700 none \"$0\" && echo mounted && exec cat";
        let mut keeper = Command::new("unshare");
        keeper.args(["--mount", "--propagation", "private", "sh", "-c", script]);
        keeper
            .arg(&folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let Ok(mut keeper) = keeper.stderr(Stdio::null()).spawn() else {
            skipped("there is no unshare here, so no disk is full");
            return None;
        };
        let mut line = String::new();
        let said = keeper.stdout.take().expect("a pipe");
        BufReader::new(said).read_line(&mut line).expect("a pipe");
        let disk = Disk { keeper, folder };
        if line != "mounted\n" {
            skipped("nothing can be mounted here, so no disk is full");
            return None;
        }
        Some(disk)
    }

    /// A command of `program` that sees the disk.
    fn command(&self, program: &Path) -> Command {
        let mut command = binary_at(Path::new("nsenter"));
        let keeper = self.keeper.id().to_string();
        command
            .args(["--mount", "--target", &keeper, "--"])
            .arg(program);
        command
    }

    /// Its folder, seen from here.
    fn seen_from_outside(&self) -> PathBuf {
        let root = format!("/proc/{}/root", self.keeper.id());
        Path::new(&root).join(self.folder.strip_prefix("/").expect("a whole path"))
    }

    fn fill(&self) {
        let path = self.seen_from_outside().join("filler");
        let mut filler = fs::File::create(path).expect("a file");
        while filler.write_all(&[0; 512]).is_ok() {}
    }

    fn make_room(&self) {
        fs::remove_file(self.seen_from_outside().join("filler")).expect("a file");
    }

    fn make_read_only(&self) {
        let mut command = self.command(Path::new("mount"));
        let status = command
            .args(["-o", "remount,ro"])
            .arg(&self.folder)
            .status();
        assert!(status.expect("mount").success());
    }

    /// The state file's text; empty before there is one.
    fn state(&self) -> String {
        let files = fs::read_dir(self.seen_from_outside()).expect("a folder");
        let mut paths = files.flatten().map(|file| file.path());
        let path = paths.find(|path| path.to_string_lossy().ends_with(".state.json"));
        path.map_or(String::new(), |path| {
            fs::read_to_string(path).unwrap_or_default()
        })
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = self.keeper.kill();
        let _ = self.keeper.wait();
    }
}

fn configure(stage: &Stage, state_dir: &Path) {
    let more = format!(
        "poll_interval_secs = 0.05\nstate_dir = \"{}\"",
        state_dir.display()
    );
    stage.configure(ECHO, &more);
}

fn spawn(stage: &Stage, disk: &Disk) -> Bot {
    stage.spawn_as(disk.command(&binary_path()), |_| {})
}

/// A bot at work with its state on a small disk of its own; nothing where none can be mounted.
fn on_a_disk() -> Option<(Stage, Disk, Bot)> {
    let stage = Stage::real();
    let disk = Disk::mount(stage.folder.path().join("state"))?;
    configure(&stage, &disk.folder);
    let bot = spawn(&stage, &disk);
    stage.wait("a first look", |_| disk.state().contains(&stage.channel));
    Some((stage, disk, bot))
}

/// Waits until the bot has tried again a few times: its pauses double from 50 ms.
fn wait_for_tries(stage: &Stage) {
    let begun = stage.world().now();
    stage.wait("more tries", |world| world.now() > begun + 2_000);
}

#[test]
fn on_a_full_disk_no_answer_is_begun_until_there_is_room() {
    let Some((stage, disk, mut bot)) = on_a_disk() else {
        return;
    };
    let mut questions = vec![stage.ask("before")];
    stage.wait_for_answer(&questions[0]);
    stage.wait("a settled state", |_| disk.state().contains(&questions[0]));

    disk.fill();
    let typed = stage.world().typing.len();
    questions.push(stage.ask("during"));
    let told = |bot: &Bot| {
        let log = bot.log();
        let told = log
            .lines()
            .filter(|line| line.contains("cannot be written"));
        told.map(str::to_owned).collect::<Vec<_>>()
    };
    stage.wait("the line in the log", |_| !told(&bot).is_empty());
    wait_for_tries(&stage);
    assert_eq!(told(&bot).len(), 1, "{}", bot.log());
    assert!(
        told(&bot)[0].contains("no answer is begun"),
        "{}",
        bot.log()
    );
    // Started anew, as by cron.
    bot.kill();
    let bot = spawn(&stage, &disk);
    stage.wait("the line in the log again", |_| told(&bot).len() == 2);
    questions.push(stage.ask("and now?"));
    wait_for_tries(&stage);
    assert_eq!(told(&bot).len(), 2, "{}", bot.log());
    assert_eq!(stage.world().typing.len(), typed);
    for question in &questions[1..] {
        assert!(stage.answers(question).is_empty());
    }

    disk.make_room();
    questions.push(stage.ask("after"));
    for question in &questions {
        stage.wait_for_answer(question);
    }
    stage.wait("a settled state", |_| {
        questions
            .iter()
            .all(|question| disk.state().contains(question.as_str()))
    });
    for question in &questions {
        assert_eq!(stage.answers(question).len(), 1, "{}", bot.log());
    }
}

fn run_on(stage: &Stage, disk: &Disk) -> Ran {
    let mut command = disk.command(&binary_path());
    command.arg("--config").arg(stage.config_path());
    run(&mut command, "")
}

/// One line that says what to do, and nothing done.
fn assert_refused(stage: &Stage, ran: &Ran) {
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert_eq!(ran.stderr.lines().count(), 1, "{ran:?}");
    assert!(ran.stderr.contains("state_dir"), "{ran:?}");
    assert_eq!(stage.world().request_count, 0, "{ran:?}");
}

#[test]
fn a_read_only_state_folder_ends_the_bot_before_any_request() {
    let Some((stage, disk, mut bot)) = on_a_disk() else {
        return;
    };
    bot.kill();
    stage.ask("anybody?");
    stage.world().request_count = 0;
    disk.make_read_only();
    let ran = run_on(&stage, &disk);
    assert_refused(&stage, &ran);
    assert!(ran.stderr.contains("Read-only"), "{ran:?}");
}

#[test]
fn a_state_folder_that_is_none_ends_the_bot_before_any_request() {
    let stage = Stage::real();
    let file = stage.folder.path().join("file");
    fs::write(&file, "").expect("a file");
    for folder in [file, stage.folder.path().join("missing"), "/proc".into()] {
        configure(&stage, &folder);
        let ran = stage.run(&[], "");
        assert_refused(&stage, &ran);
        assert!(
            ran.stderr.contains(&folder.display().to_string()),
            "{ran:?}"
        );
    }
}

#[test]
fn a_state_file_that_cannot_be_read_ends_the_bot_before_any_answer() {
    let stage = Stage::real();
    stage.configure(ECHO, "");
    stage.ask("anybody?");
    fs::create_dir(stage.state_path()).expect("a folder");
    let ran = stage.run(&["-q"], "");
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert_eq!(ran.stderr.lines().count(), 1, "{ran:?}");
    let path = stage.state_path().display().to_string();
    assert!(ran.stderr.contains(&path), "{ran:?}");
    assert!(ran.stderr.contains("state_dir"), "{ran:?}");
    let posts = stage.world().posts_in(&stage.channel);
    let own = posts.iter().filter(|post| post.user_id == stage.bot.id);
    assert_eq!(own.filter(|post| post.kind.is_empty()).count(), 0);
}

/// The program in a root of its own that has its libraries and `/dev/null`, and nothing else but its
/// config and its state.
struct Bare {
    stage: Stage,
    root: PathBuf,
}

impl Bare {
    /// Makes one, where that is allowed.
    fn make() -> Option<Bare> {
        let stage = Stage::real();
        let root = stage.folder.path().join("root");
        fs::create_dir_all(root.join("state")).expect("a folder");
        let bare = Bare { stage, root };
        if !bare.run(&["--version"]).stdout.starts_with("prx ") {
            skipped("no root can be changed here, so nothing runs without /proc");
            return None;
        }
        Some(bare)
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        let script = "for it in /lib /lib64 /usr/lib; do
                [ ! -d $it ] || { mkdir -p \"$0$it\" && mount --bind $it \"$0$it\"; } || exit 9
            done
            mkdir -p \"$0/dev\" && touch \"$0/prx\" \"$0/dev/null\" &&
            mount --bind /dev/null \"$0/dev/null\" && mount --bind \"$1\" \"$0/prx\" || exit 9
            shift; exec chroot \"$0\" /prx \"$@\"";
        let mut command = binary_at(Path::new("unshare"));
        command.args(["--mount", "--propagation", "private", "sh", "-c", script]);
        command.arg(&self.root).arg(binary_path()).args(arguments);
        run(&mut command, "")
    }

    /// One round with this at the top of the config.
    fn round(&self, top: &str) -> Ran {
        self.stage.configure(top, "state_dir = \"/state\"");
        let config = self.root.join("config.toml");
        fs::copy(self.stage.config_path(), config).expect("a config");
        self.run(&["--once", "--config", "/config.toml"])
    }
}

#[test]
fn in_an_empty_root_it_answers_and_names_what_it_lacks() {
    let Some(bare) = Bare::make() else {
        return;
    };
    let (stage, echo) = (&bare.stage, ECHO);
    for text in ["before its time", "why?"] {
        let question = stage.ask(text);
        let ran = bare.round(echo);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        // The watch for changes is off.
        let told = ran.stderr.lines().filter(|line| line.contains("/proc"));
        assert_eq!(told.count(), 1, "{ran:?}");
        let answered = usize::from(text == "why?");
        assert_eq!(stage.answers(&question).len(), answered, "{ran:?}");
    }
    let question = stage.ask("and by a program?");
    let command = "default_provider = \"command\"\nprovider_command = [\"/prx\", \"--version\"]";
    let ran = bare.round(command);
    assert!(ran.stderr.contains("is /proc mounted?)"), "{ran:?}");
    assert_eq!(stage.answers(&question).len(), 1, "{ran:?}");
    let url = stage.mattermost.url().replace("127.0.0.1", "chat.example");
    let config = fs::read_to_string(bare.root.join("config.toml")).expect("a config");
    let config = config.replace(&stage.mattermost.url(), &url);
    fs::write(bare.root.join("config.toml"), config).expect("a config");
    let ran = bare.run(&["--once", "--config", "/config.toml"]);
    assert!(ran.stderr.contains("/etc/resolv.conf"), "{ran:?}");
}
