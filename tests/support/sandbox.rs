//! `cargo run --example sandbox`: a Mattermost and the real bot in one process, to chat with in a
//! terminal. With nothing on standard input it shows by itself what the bot does.

#[path = "."]
#[allow(dead_code)] // The tests use the rest.
mod support {
    pub mod clock;
    pub mod mattermost;
    pub mod model;
    pub mod random;
    pub mod wire;
}

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use prx::commands::run::Session;
use prx::config::{self, Allowed, Config};
use prx::desk::Processes;
use prx::exit::Exit;
use prx::mattermost::{ChannelId, UserId};
use prx::provider::{Api, KNOWN, ProviderKind};
use prx::times::Times;
use serde_json::{Map, Value, json};
use signal_hook::consts::SIGINT;
use signal_hook::flag;
use tempfile::TempDir;

use support::clock::Time;
use support::mattermost::picture::{self, Format};
use support::mattermost::{
    Account, Act, Fault, Joining, Kind, Mattermost, Post, Version, api_path,
};
use support::model::{self, Model, ModelReply};
use support::wire::{Request, lock};

const USAGE: &str = "\
Usage: cargo run --example sandbox [-- [--config FILE] [--model NAME]]

  --config FILE  answer with the model and the settings of this prx config file;
                 server, token, channel_id and allowed_users are the sandbox's;
                 [channels_config.mattermost.channels.talk] holds in ~talk
  --model NAME   answer with this model of that file's provider, or else of the
                 one whose key is in the environment (OPENAI_API_KEY, …)

Without either, `echo` answers: it repeats what it hears.
Lines on standard input become messages; with none, a short show is played.
";

const HELP: &str = "\
/dm              talk to the bot directly
/thread          go into the thread of the last message
/channel         back to ~talk; /channel lobby: where it must be mentioned
/as NAME         be somebody else; ann and bob are in allowed_users
/and TEXT        a message whose answer is not waited for
/edit TEXT       change the last message
/delete          delete it
/react NAME      react to it with an emoji: x stops its answer
/file NAME TEXT  send a text file
/file PATH TEXT  send a file of this machine, and TEXT if you like
/picture TEXT    send a picture, and TEXT if you like
/model HABIT     a stand-in model answers; /model: which habits there are
/restart         stop the bot and start it again
/log             the bot's own log
/quit            end; so do /exit, Ctrl-C and Ctrl-D
In a message, \\n is a line's end. What is typed while an answer is made is
taken at once.";

/// What the stand-in model can be like.
const HABITS: [(&str, &str); 14] = [
    ("echo", "repeats the question"),
    ("told", "repeats all that it was told"),
    ("grow", "writes for some seconds, and its post grows"),
    ("long", "answers with more than fits a post"),
    ("slow", "takes 12 seconds"),
    ("think", "thinks aloud before it answers"),
    ("cut", "stops at its length limit, in the middle of code"),
    ("loud", "mentions everybody, and writes links and images"),
    ("empty", "says nothing"),
    ("refuse", "declines to answer"),
    ("filter", "is stopped by a content filter"),
    ("error", "reports an error in the middle of its answer"),
    ("broken", "breaks off in the middle of its answer"),
    (
        "small",
        "takes three messages at most, the system's among them",
    ),
];

/// The column in which texts begin, and how wide they are: 80 in all, and one to spare.
const INDENT: usize = 21;
const WIDTH: usize = 58;
/// Lines of a text that the show prints, and a chat.
const SHOWN_LINES: usize = 2;
const CHAT_LINES: usize = 24;
/// Lines of the bot's log that `/log` prints.
const LOG_LINES: usize = 15;
/// Characters of an answer that the model repeats.
const TOLD: usize = 20;
/// How long the slow model takes.
const SLOW: Duration = Duration::from_secs(12);
/// Between two pieces of an answer that grows; there are about 70.
const PIECE: Duration = Duration::from_millis(60);
/// Between two looks at the server.
const LOOK: Duration = Duration::from_millis(5);

/// Whether Ctrl-C was pressed; a second one ends the process at once.
fn interrupted() -> bool {
    static INTERRUPTED: OnceLock<Arc<AtomicBool>> = OnceLock::new();
    let interrupted = INTERRUPTED.get_or_init(|| {
        let interrupted = Arc::<AtomicBool>::default();
        // In this order: the first Ctrl-C only sets the flag.
        let _ = flag::register_conditional_shutdown(SIGINT, 130, interrupted.clone());
        let _ = flag::register(SIGINT, interrupted.clone());
        interrupted
    });
    interrupted.load(Ordering::SeqCst)
}

fn main() -> ExitCode {
    // The workers of the bot in this process are this program started again.
    if std::env::args().nth(1).is_some_and(|word| word == "answer") {
        return prx::cli::main();
    }
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(exit) => {
            eprintln!("sandbox: {}", exit.message());
            ExitCode::from(exit.code())
        }
    }
}

fn run() -> Result<(), Exit> {
    let Some(arguments) = Arguments::read(std::env::args().skip(1))? else {
        print_line(USAGE.trim_end());
        return Ok(());
    };
    interrupted();
    let mut sandbox = Sandbox::start(&arguments)?;
    if io::stdin().is_terminal() {
        return sandbox.chat();
    }
    let lines = io::stdin().lines().map_while(Result::ok);
    let mut lines = lines.filter(|line| !line.trim().is_empty());
    match lines.next() {
        Some(first) => sandbox.answer_all(std::iter::once(first).chain(lines)),
        None if arguments.names_model() => Err(Exit::Config(
            "the show is played by echo; with --config or --model, write lines to standard input"
                .into(),
        )),
        None => sandbox.show(),
    }
}

#[derive(Default)]
struct Arguments {
    config: Option<String>,
    model: Option<String>,
    /// The provider whose key is in the environment, and the variable.
    provider: Option<(&'static str, &'static str)>,
}

impl Arguments {
    /// Nothing: help was asked for.
    fn read(mut words: impl Iterator<Item = String>) -> Result<Option<Arguments>, Exit> {
        let mut arguments = Arguments::default();
        while let Some(word) = words.next() {
            let target = match word.as_str() {
                "--help" | "-h" => return Ok(None),
                "--config" => &mut arguments.config,
                "--model" => &mut arguments.model,
                _ => return Err(Exit::Config(format!("what is {word:?}?\n{USAGE}"))),
            };
            let value = words.next();
            *target = Some(value.ok_or_else(|| Exit::Config(format!("{word} needs a value")))?);
        }
        let variables = KNOWN.iter().flat_map(|known| {
            let variables = known.key_variables.iter();
            variables.map(|variable| (known.name, *variable))
        });
        let mut variables = variables.filter(|(_, variable)| {
            std::env::var(variable).is_ok_and(|key| !key.trim().is_empty())
        });
        arguments.provider = variables.next();
        if arguments.model.is_some() && arguments.config.is_none() && arguments.provider.is_none() {
            let hint = "--model needs a provider's key in the environment, such as OPENAI_API_KEY";
            return Err(Exit::Config(hint.into()));
        }
        Ok(Some(arguments))
    }

    fn names_model(&self) -> bool {
        self.config.is_some() || self.model.is_some()
    }
}

/// Where somebody writes.
#[derive(Clone)]
struct Place {
    /// As it is shown.
    label: &'static str,
    channel: String,
    /// The thread's root; empty: in the channel itself.
    root: String,
}

/// A post that the bot saw or will see.
struct Question {
    post: String,
    author: String,
    /// Whether others waited for an answer at the same time.
    among_others: bool,
    /// The parts of its answer as they were shown.
    shown: Vec<String>,
    typing_shown: bool,
}

struct Sandbox {
    server: Mattermost,
    config: Config,
    people: BTreeMap<String, Account>,
    bot: Account,
    team: String,
    talk: Place,
    lobby: Place,
    direct: Place,
    log: Arc<Mutex<Vec<String>>>,
    worker: Option<Worker>,
    /// The stand-in model and its habit.
    model: Option<(Model, Arc<Mutex<String>>)>,
    screen: Screen,
    /// The last post of an ordinary message, for `/thread`.
    last: Option<Place>,
    /// What is typed in a terminal, and the line of it that was taken while answers were awaited.
    typed: Option<mpsc::Receiver<String>>,
    ahead: Option<String>,
    /// Posts that await an answer or a reason why there is none.
    open: Vec<Question>,
    /// All that was asked, but what was deleted.
    asked: Vec<String>,
    _folder: TempDir,
}

/// The bot in its thread.
struct Worker {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<(), Exit>>,
}

impl Sandbox {
    fn start(arguments: &Arguments) -> Result<Sandbox, Exit> {
        let server = Mattermost::start(Version::V11_6, Time::real());
        let mut world = server.world();
        let bot = world.add_bot("prxbot");
        let [ann, bob, eve] = ["ann", "bob", "eve"].map(|name| world.add_user(name));
        let team = world.add_team("team");
        let [talk, lobby] =
            ["talk", "lobby"].map(|name| world.add_channel(&team, name, Kind::Open));
        for account in [&bot, &ann, &bob, &eve] {
            world.join_team(&team, account);
            for channel in [&talk, &lobby] {
                world.add_member(channel, account, Joining::Joined);
            }
        }
        let direct = world.direct_channel(&ann, &bot);
        drop(world);
        let folder = TempDir::new().map_err(|error| Exit::Failure(error.to_string()))?;
        let channels = [("talk", talk.as_str()), ("lobby", lobby.as_str())];
        let config = configure(
            arguments,
            folder.path(),
            &server.url(),
            &bot,
            &[&ann, &bob],
            &channels,
        )?;
        let place = |label, channel| Place {
            label,
            channel,
            root: String::new(),
        };
        let mut sandbox = Sandbox {
            talk: place("~talk", talk),
            lobby: place("~lobby", lobby),
            direct: place("@prxbot", direct),
            log: Log::install(),
            people: [("ann", ann), ("bob", bob), ("eve", eve)]
                .map(|(name, account)| (name.into(), account))
                .into(),
            worker: None,
            model: None,
            screen: Screen::new(),
            last: None,
            typed: None,
            ahead: None,
            open: Vec::new(),
            asked: Vec::new(),
            server,
            config,
            bot,
            team,
            _folder: folder,
        };
        sandbox.greet(arguments)?;
        sandbox.start_bot()?;
        Ok(sandbox)
    }

    fn greet(&self, arguments: &Arguments) -> Result<(), Exit> {
        let screen = &self.screen;
        screen.title("prx sandbox");
        screen.note(
            "A Mattermost server and the bot @prxbot, both in this process. Nobody else sees it, and \
             nothing is kept.",
        );
        screen.note(&format!(
            "Answers come from {}.",
            self.config.provider.describe()
        ));
        if let (None, None, Some((name, variable))) =
            (&arguments.config, &arguments.model, arguments.provider)
        {
            let hint = format!("{variable} is set: with `-- --model NAME`, {name} answers.");
            screen.note(&hint);
        }
        Ok(())
    }

    /// Returns when the bot has looked at everything once.
    fn start_bot(&mut self) -> Result<(), Exit> {
        let (stop, config) = (Arc::new(AtomicBool::new(false)), self.config.clone());
        let asked_to_stop = stop.clone();
        let thread = thread::spawn(move || {
            let times = Times::default();
            let desk = Processes::new(times.clock.clone());
            let desk = desk.map_err(|error| Exit::Failure(error.to_string()))?;
            let started = Session::start(config, times, Box::new(desk), false, &mut || {})?;
            let Some(mut session) = started else {
                return Err(Exit::Failure("another bot has the lock".into()));
            };
            while !asked_to_stop.load(Ordering::SeqCst) {
                session.step()?;
            }
            Ok(())
        });
        self.worker = Some(Worker { stop, thread });
        self.wait_for_rounds()
    }

    /// Stops the bot between two rounds.
    fn stop_bot(&mut self) -> Result<(), Exit> {
        let Some(worker) = self.worker.take() else {
            return Ok(());
        };
        worker.stop.store(true, Ordering::SeqCst);
        let ended = worker.thread.join();
        ended.unwrap_or_else(|_| Err(Exit::Failure("the bot panicked".into())))
    }

    /// Waits until the round that the bot is at is over: it asks for its list of channels once more.
    fn wait_for_rounds(&mut self) -> Result<(), Exit> {
        let count = |sandbox: &Sandbox| {
            let world = sandbox.server.world();
            let lists = world.log.iter().filter(|call| {
                call.user == "prxbot"
                    && call.target.contains("/teams/")
                    && call.target.contains("/channels")
            });
            lists.count()
        };
        let begun = count(self);
        while count(self) < begun + 2 {
            self.look()?;
        }
        Ok(())
    }

    /// A short pause; an error if the bot ended by itself.
    fn look(&mut self) -> Result<(), Exit> {
        if self
            .worker
            .as_ref()
            .is_some_and(|worker| worker.thread.is_finished())
        {
            self.stop_bot()?;
            return Err(Exit::Failure("the bot stopped".into()));
        }
        thread::sleep(LOOK);
        Ok(())
    }

    fn post(&mut self, name: &str, place: &Place, text: &str) {
        self.post_with_file(name, place, text, None);
    }

    /// `file`: its name, its type and its bytes.
    fn post_with_file(
        &mut self,
        name: &str,
        place: &Place,
        text: &str,
        file: Option<(&str, &str, &[u8])>,
    ) {
        let account = &self.people[name];
        let mut world = self.server.world();
        world.typing.clear();
        let mut post = world.draft(account, &place.channel, text).root(&place.root);
        if let Some((name, kind, bytes)) = file {
            post = post.file(name, kind, bytes);
        }
        let post = post.post();
        drop(world);
        let root = match place.root.is_empty() {
            true => post.clone(),
            false => place.root.clone(),
        };
        self.last = Some(Place {
            label: "thread",
            channel: place.channel.clone(),
            root,
        });
        self.asked.push(post.clone());
        self.open.push(Question {
            post,
            author: name.to_owned(),
            among_others: false,
            shown: Vec::new(),
            typing_shown: false,
        });
    }

    /// Shows what becomes of the posts so far, until it is known of all of them or somebody types.
    fn watch(&mut self) -> Result<(), Exit> {
        while !self.open.is_empty() && self.ahead.is_none() && !interrupted() {
            self.ahead = self.typed.as_ref().and_then(|typed| typed.try_recv().ok());
            let log = lock(&self.log).clone();
            self.show_open(&log);
            self.look()?;
        }
        Ok(())
    }

    /// Shows what is new of the open posts, and keeps those with which more will happen.
    fn show_open(&mut self, log: &[String]) {
        let mut open = std::mem::take(&mut self.open);
        let several = open.windows(2).any(|pair| pair[0].author != pair[1].author);
        open.retain_mut(|question| {
            question.among_others |= several;
            !self.show_answer(question, log)
        });
        self.open = open;
    }

    /// Whether nothing more will happen with the post.
    fn show_answer(&self, question: &mut Question, log: &[String]) -> bool {
        // What the log says was on the server before.
        let end = log.iter().find_map(|line| fate(line, &question.post));
        let world = self.server.world();
        let asked = world.post_by_id(&question.post);
        let typing = world.typing.iter().any(|typing| {
            typing.channel_id == asked.channel_id
                && (typing.parent_id.is_empty()
                    || typing.parent_id == asked.id
                    || typing.parent_id == asked.root_id)
        });
        if typing && !question.typing_shown {
            question.typing_shown = true;
            self.screen.say("", "prxbot", "is typing…", true);
        }
        let mut answers = world.own_answers(&self.bot, &question.post);
        if answers.is_empty() {
            answers = world.posts_in(&asked.channel_id);
            let grows_for = |post: &Post| {
                Some(post.props.get("prx")?.get("growing_for")?.as_str()? == question.post)
            };
            answers.retain(|post| grows_for(post) == Some(true));
        }
        for (number, answer) in answers.iter().enumerate() {
            let (part, of) = part(&answer.props);
            let before = question.shown.get(number);
            let label = match answer.root_id.is_empty() {
                _ if before == Some(&answer.message) => continue,
                _ if question.among_others => format!(" └ to {}", question.author),
                _ if before.is_some() => " └ grows".to_owned(),
                _ if of > 1 => format!(" └ {} of {of}", part + 1),
                true => String::new(),
                false => " └ thread".to_owned(),
            };
            let shown = match before {
                Some(before) => grown(before, &answer.message),
                None => answer.message.clone(),
            };
            self.screen.say(&label, "prxbot", &shown, false);
            question.shown.truncate(number);
            question.shown.push(answer.message.clone());
        }
        if let [emoji, ..] = &world.reactions_by(&self.bot, &question.post)[..] {
            let text = format!("reacts with :{emoji}:");
            self.screen.say("", "prxbot", &text, true);
            return true;
        }
        match end {
            Some(Fate::Silence(why)) => {
                let text = format!("stays silent: {why}");
                self.screen.say("", "prxbot", &text, true);
                true
            }
            Some(Fate::Answered) => true,
            None => false,
        }
    }

    /// A message of the show or of standard input, and what becomes of it.
    fn ask(&mut self, name: &str, place: &Place, text: &str) -> Result<(), Exit> {
        self.screen.say(place.label, name, text, false);
        self.post(name, place, text);
        self.watch()
    }

    /// Every line a message.
    fn answer_all(&mut self, lines: impl Iterator<Item = String>) -> Result<(), Exit> {
        print_line("");
        let mut here = Here::new(self);
        for line in lines.map(|line| unescaped(&line)) {
            match line.strip_prefix('/').map(str::trim_end) {
                _ if interrupted() => break,
                Some("quit" | "exit") => break,
                Some(command) => self.command(command, &mut here)?,
                None => self.ask(&here.name.clone(), &here.place.clone(), &line)?,
            }
        }
        print_line("");
        self.count()
    }

    /// Until the end of the input.
    fn chat(&mut self) -> Result<(), Exit> {
        self.screen
            .note("Write something. /help shows the commands, /quit ends.");
        let mut here = Here::new(self);
        self.typed = Some(typed_lines());
        loop {
            self.watch()?;
            let line = if let Some(line) = self.ahead.take() {
                // Typed among the answers: here it stands in its place.
                self.screen.say(here.place.label, &here.name, &line, false);
                line
            } else {
                print_line("");
                self.screen.prompt(here.place.label, &here.name);
                let Some(line) = self.next_line() else {
                    print_line("\n");
                    return self.count();
                };
                line
            };
            let line = unescaped(&line);
            match (line.trim(), line.strip_prefix('/')) {
                ("", _) => {}
                ("/quit" | "/exit", _) => return self.count(),
                (_, Some(command)) => self.command(command, &mut here)?,
                (text, None) => self.post(&here.name, &here.place, text),
            }
        }
    }

    /// The next line that is typed; nothing at the end, or after Ctrl-C.
    fn next_line(&self) -> Option<String> {
        let typed = self.typed.as_ref()?;
        loop {
            match typed.recv_timeout(LOOK * 10) {
                _ if interrupted() => return None,
                Err(mpsc::RecvTimeoutError::Timeout) => {}
                line => return line.ok(),
            }
        }
    }

    fn command(&mut self, command: &str, here: &mut Here) -> Result<(), Exit> {
        let (name, rest) = command.split_once(' ').unwrap_or((command, ""));
        if let "and" | "edit" | "delete" | "react" | "file" | "picture" | "model" = name {
            return self.scene_command(name, rest.trim(), here);
        }
        let mut words = command.split_whitespace();
        match (words.next().unwrap_or_default(), words.next()) {
            ("dm", None) => {
                let mut world = self.server.world();
                let channel = world.direct_channel(&self.people[&here.name], &self.bot);
                here.place = Place {
                    channel,
                    ..self.direct.clone()
                };
            }
            ("thread", None) => match &self.last {
                Some(thread) => here.place = thread.clone(),
                None => self.screen.note("There is no message yet."),
            },
            ("channel", None | Some("talk" | "~talk")) => here.place = self.talk.clone(),
            ("channel", Some("lobby" | "~lobby")) => here.place = self.lobby.clone(),
            ("channel", Some(_)) => self.screen.note("There are ~talk and ~lobby."),
            ("as", Some(name)) => {
                let name = name.trim_start_matches('@').to_lowercase();
                if name == "prxbot" {
                    self.screen.note("That is the bot.");
                } else {
                    self.meet(&name);
                    let open = [&self.talk.channel, &self.lobby.channel];
                    if !open.contains(&&here.place.channel) {
                        // Nobody else's direct channel.
                        here.place = self.talk.clone();
                    }
                    let place = match here.place.root.as_str() {
                        "" => here.place.label,
                        _ => "the thread",
                    };
                    self.screen.note(&format!("Now {name} writes, in {place}."));
                    here.name = name;
                }
            }
            ("as", None) => self.screen.note("As whom? Write /as NAME."),
            ("restart", None) => {
                self.stop_bot()?;
                self.start_bot()?;
                self.screen.note("The bot was stopped and started.");
            }
            ("log", None) => {
                let log = lock(&self.log);
                for line in &log[log.len().saturating_sub(LOG_LINES)..] {
                    self.screen.note(line);
                }
            }
            ("help", _) => HELP.lines().for_each(|line| self.screen.note(line)),
            _ => self
                .screen
                .note("No such command; /help shows what there is."),
        }
        Ok(())
    }

    /// The commands that set up what a bot may meet.
    fn scene_command(&mut self, name: &str, rest: &str, here: &mut Here) -> Result<(), Exit> {
        match (name, self.asked.last()) {
            ("and", _) => {
                self.screen.say(here.place.label, &here.name, rest, false);
                self.post(&here.name, &here.place, rest);
            }
            ("edit" | "delete" | "react", None) => self.screen.note("There is no message yet."),
            ("edit", _) if rest.is_empty() => self.screen.note("To what? Write /edit TEXT."),
            ("edit", Some(post)) => {
                self.server.world().edit(post, rest);
                self.screen.note("The last message is changed.");
            }
            ("delete", Some(post)) => {
                self.server.world().delete(post);
                self.asked.pop();
                self.screen.note("The last message is deleted.");
            }
            ("react", _) if rest.is_empty() => self.screen.note("How? Write /react NAME."),
            ("react", Some(post)) => {
                let account = &self.people[&here.name];
                self.server.world().react(account, post, rest);
                let text = format!("{} reacts to the last message with :{rest}:", here.name);
                self.screen.note(&text);
            }
            ("file", _) => {
                let (name, text) = rest.split_once(' ').unwrap_or((rest, ""));
                match (std::fs::read(name), text) {
                    (Ok(bytes), text) => {
                        let name = Path::new(name).file_name().unwrap_or_default();
                        self.send_file(here, text, &name.to_string_lossy(), &bytes)?;
                    }
                    (Err(error), text) if text.is_empty() || name.contains('/') => {
                        let why = format!("{name}: {error}. /file NAME TEXT sends a new one.");
                        self.screen.note(&why);
                    }
                    (Err(_), text) => self.send_file(here, "", name, text.as_bytes())?,
                }
            }
            ("picture", _) => self.send_file(here, rest, "picture.png", &picture::png(64, 48))?,
            _ => match HABITS.iter().find(|(habit, _)| *habit == rest) {
                Some((habit, what)) => {
                    self.stand_in(habit)?;
                    self.screen.note(&format!("The model {what}."));
                }
                None => {
                    if !rest.is_empty() {
                        self.screen.note("There is no such habit. There are:");
                    }
                    for (habit, what) in HABITS {
                        self.screen.note(&format!("/model {habit:<8} {what}"));
                    }
                }
            },
        }
        Ok(())
    }

    fn send_file(&mut self, here: &Here, text: &str, name: &str, bytes: &[u8]) -> Result<(), Exit> {
        let shown = format!("[{name}] {text}");
        let label = here.place.label;
        self.screen.say(label, &here.name, shown.trim_end(), false);
        let kind = match picture::picture_of(bytes).map(|picture| picture.format) {
            None => "text/plain",
            Some(Format::Png) => "image/png",
            Some(Format::Jpeg) => "image/jpeg",
            Some(Format::Gif) => "image/gif",
            Some(Format::WebP) => "image/webp",
            Some(Format::Svg) => "image/svg+xml",
        };
        self.post_with_file(&here.name, &here.place, text, Some((name, kind, bytes)));
        self.watch()
    }

    /// Lets the stand-in model answer, with that habit.
    fn stand_in(&mut self, habit: &str) -> Result<(), Exit> {
        if let Some((_, present)) = &self.model {
            *lock(present) = habit.into();
            return Ok(());
        }
        let (model, present) = (Model::start(), Arc::new(Mutex::new(habit.to_owned())));
        let habit = present.clone();
        model.on_request(move |request| reply(&lock(&habit), request));
        let settings = &mut self.config.provider;
        settings.kind = ProviderKind::Server {
            api: Api::OpenAi,
            name: "stand-in".into(),
            base: format!("{}/v1", model.url()),
        };
        (settings.model, settings.api_key) = ("of the sandbox".into(), None);
        self.model = Some((model, present));
        self.stop_bot()?;
        self.start_bot()
    }

    /// Somebody who is in the channels.
    fn meet(&mut self, name: &str) {
        if self.people.contains_key(name) {
            return;
        }
        let mut world = self.server.world();
        let account = world.add_user(name);
        world.join_team(&self.team, &account);
        for place in [&self.talk, &self.lobby] {
            world.add_member(&place.channel, &account, Joining::Joined);
        }
        drop(world);
        self.people.insert(name.into(), account);
    }

    /// What the server has of the bot's answers, after one more round.
    fn count(&mut self) -> Result<(), Exit> {
        if !interrupted() {
            self.wait_for_rounds()?;
        }
        let world = self.server.world();
        let (mut answered, mut doubled) = (0, 0);
        for post in &self.asked {
            let first_parts = world.own_answers(&self.bot, post);
            let first_parts = first_parts
                .iter()
                .filter(|answer| part(&answer.props).0 == 0);
            match first_parts.count() {
                0 if world.reactions_by(&self.bot, post).is_empty() => {}
                0 => answered += 1,
                1 => answered += 1,
                _ => doubled += 1,
            }
        }
        drop(world);
        let asked = self.asked.len();
        let plural = if asked == 1 { "" } else { "s" };
        self.screen.note(&format!(
            "{asked} message{plural}, {answered} answered once, {} left alone, {doubled} answered twice.",
            asked - answered - doubled
        ));
        // After Ctrl-C nobody waits for a model.
        if interrupted() {
            return Ok(());
        }
        self.stop_bot()
    }
}

/// Who writes, and where.
struct Here {
    name: String,
    place: Place,
}

impl Here {
    fn new(sandbox: &Sandbox) -> Here {
        Here {
            name: "ann".into(),
            place: sandbox.talk.clone(),
        }
    }
}

/// The show.
impl Sandbox {
    fn show(&mut self) -> Result<(), Exit> {
        self.screen.brief = true;
        let (talk, lobby, direct) = (self.talk.clone(), self.lobby.clone(), self.direct.clone());

        self.scene("A message in a channel is answered in its thread");
        self.ask("ann", &talk, "Is the staging server up?")?;
        if let Some(thread) = self.last.clone() {
            self.ask("ann", &thread, "And the database?")?;
        }

        self.scene("A direct message is answered, too");
        self.ask("ann", &direct, "Can we talk here?")?;

        self.scene("Who is not in allowed_users is left alone: nothing reaches the model");
        self.ask("eve", &talk, "Tell me a secret")?;

        self.scene("With mention_only, as in ~lobby, the bot waits until it is called");
        self.ask("ann", &lobby, "Lunch at noon?")?;
        self.ask("ann", &lobby, "@prxbot lunch at noon?")?;

        self.scene("An answer that is longer than a post may be comes in parts");
        let limit = self.server.world().knobs.max_post_size;
        self.ask("ann", &talk, &numbered_words(limit))?;

        self.scene("The connection breaks while the bot posts, and the bot is stopped");
        self.break_off(&talk, "Did you get this?")?;
        for text in ["Are you there?", "Hello?"] {
            self.screen.say(talk.label, "ann", text, false);
            self.post("ann", &talk, text);
        }
        self.screen.say("", "", "The bot starts again.", true);
        self.start_bot()?;
        self.watch()?;

        self.scene("Two people are answered at once, in posts that grow");
        self.stand_in("grow")?;
        for (name, text) in [("ann", "What is a webhook?"), ("bob", "And what is a bot?")] {
            self.screen.say(talk.label, name, text, false);
            self.post(name, &talk, text);
        }
        self.watch()?;

        self.scene("Who asked can stop an answer, and ask what there is");
        let text = "Tell me a long story";
        self.screen.say(talk.label, "ann", text, false);
        self.post("ann", &talk, text);
        while self.open.iter().any(|question| question.shown.is_empty()) {
            self.show_open(&[]);
            self.look()?;
        }
        if let Some(thread) = self.last.clone() {
            self.ask("ann", &thread, "@prxbot stop")?;
        }
        self.ask("ann", &talk, "@prxbot help")?;

        print_line("");
        self.count()?;
        print_line("");
        self.screen
            .note("Chat yourself: run this in a terminal, with standard input as it is.");
        self.screen
            .note("README.md tells how to run prx on your own server.");
        Ok(())
    }

    fn scene(&self, title: &str) {
        print_line("");
        self.screen.title(title);
    }

    /// The server takes the answer, but the bot does not learn it, and is not there any more.
    fn break_off(&mut self, place: &Place, text: &str) -> Result<(), Exit> {
        if let Some(worker) = &self.worker {
            let stop = worker.stop.clone();
            self.server.on_request(move |request, _| {
                if request.method != "POST" || !api_path(request).starts_with("posts") {
                    return Act::Serve;
                }
                stop.store(true, Ordering::SeqCst);
                Act::ServeThen(Fault::Reset)
            });
        }
        self.screen.say(place.label, "ann", text, false);
        self.post("ann", place, text);
        while self
            .worker
            .as_ref()
            .is_some_and(|worker| !worker.thread.is_finished())
        {
            thread::sleep(LOOK);
        }
        self.stop_bot()?;
        self.server.serve_all();
        self.show_open(&[]);
        let text = "The bot was stopped before it knew that this was posted.";
        self.screen.say("", "", text, true);
        Ok(())
    }
}

/// Which part of how many a post of the bot is, the first being 0.
fn part(props: &Map<String, Value>) -> (u64, u64) {
    let number = |name| props["prx"][name].as_u64().unwrap_or_default();
    (number("part"), number("of"))
}

/// As many characters of numbered words.
fn numbered_words(count: usize) -> String {
    let mut text = String::from("A long one:");
    for number in 1.. {
        let _ = write!(text, " word {number},");
        if text.len() > count {
            break;
        }
    }
    text.truncate(count);
    text
}

/// What the stand-in model does with a question.
fn reply(habit: &str, request: &Request) -> ModelReply {
    let body = model::body(request);
    let told = body["messages"].as_array().map_or(&[][..], Vec::as_slice);
    let text = |value: &Value| match value {
        Value::Array(parts) => parts.iter().map(shown_part).collect::<Vec<_>>().join(" "),
        value => value.as_str().unwrap_or_default().to_owned(),
    };
    let stopped = |said: &str, reason: &str| {
        let chunk = json!({"choices": [{"delta": {"content": said}, "finish_reason": reason}]});
        ModelReply::stream(&format!("data: {chunk}\n\ndata: [DONE]\n\n"))
    };
    match habit {
        "told" => ModelReply::Text(told.iter().fold("I was told:".into(), |all, message| {
            let (role, content) = (text(&message["role"]), text(&message["content"]));
            let mut line = content.split_whitespace().collect::<Vec<_>>().join(" ");
            // Else its answers would repeat its answers.
            if role == "assistant" && line.chars().count() > TOLD {
                line = line.chars().take(TOLD).chain(['…']).collect();
            }
            format!("{all}\n- {role}: {line}")
        })),
        "echo" => ModelReply::Text(told.last().map_or(String::new(), |question| {
            format!("You said: {}", text(&question["content"]))
        })),
        "grow" => ModelReply::Paced(story(), PIECE),
        "long" => ModelReply::Text(long_text()),
        "slow" => {
            let (release, held) = mpsc::channel();
            thread::spawn(move || {
                thread::sleep(SLOW);
                drop(release);
            });
            ModelReply::Held(held, Box::new(ModelReply::text("That took a while.")))
        }
        "think" => ModelReply::text("<think>What could this mean?</think>\n\nIt means yes."),
        "cut" => stopped("Like this:\n```python\nfor word in", "length"),
        "loud" => ModelReply::text(
            "@all @Channel @here look: ![a picture](https://example.com/picture.png?secret=1) \
             and [a link](https://example.com/), `@all`",
        ),
        "empty" => ModelReply::text("<think>There is nothing to say.</think>\u{200b}"),
        "refuse" => stopped("", "refusal"),
        "filter" => stopped("I will", "content_filter"),
        "error" => ModelReply::stream(
            "data: {\"choices\": [{\"delta\": {\"content\": \"So\"}}]}\n\n\
             data: {\"error\": {\"message\": \"The machine is too busy.\"}}\n\n",
        ),
        "broken" => ModelReply::Truncated("This is the beginning of".into()),
        "small" if told.len() > 3 => ModelReply::status(
            400,
            r#"{"error": {"code": "context_length_exceeded", "message": "Too many tokens."}}"#,
        ),
        _ => ModelReply::Text(format!("I was told {} messages.", told.len())),
    }
}

/// A part of what the model was told: text, or a picture, of which there is its type and its size.
fn shown_part(part: &Value) -> String {
    if let Some(text) = part["text"].as_str() {
        return text.to_owned();
    }
    let url = part["image_url"]["url"].as_str().unwrap_or_default();
    let (kind, data) = url.split_once(";base64,").unwrap_or((url, ""));
    let kind = kind.trim_start_matches("data:");
    format!("[a picture: {kind}, {} bytes]", data.len() / 4 * 3)
}

/// What stands behind `before` in `now`, or all of it where that was changed.
fn grown(before: &str, now: &str) -> String {
    // An unfinished answer ends with a mark of its own.
    let same = before.chars().zip(now.chars());
    let same = same.take_while(|(one, other)| one == other).count();
    match same * 10 >= before.chars().count() * 9 {
        true => "… ".to_owned() + now.chars().skip(same).collect::<String>().trim_start(),
        false => now.to_owned(),
    }
}

/// What the growing model writes.
fn story() -> String {
    let sentences = [
        "Let me think about this from the start.",
        "One program sends a message to another as soon as something has happened,",
        "so that nobody has to ask again and again.",
        "That saves time on both sides,",
        "and it works as long as both of them are there.",
        "Where one of them may sleep, somebody must remember what was said,",
        "and say it once more when it wakes up.",
        "Most of the work is in saying it once and not twice.",
        "That is all there is to it.",
    ];
    sentences.join(" ")
}

/// Longer than a post: paragraphs, a list, a quote, and code in the middle of which it is cut.
fn long_text() -> String {
    let mut text =
        String::from("This will be long.\n\n- one\n- two\n\n> A quote\n> of two lines.\n\n");
    text += &"A sentence of a paragraph. ".repeat(20);
    text += "\n\n```python\n";
    for number in 0..1000 {
        let _ = writeln!(text, "print(\"line {number}\")");
    }
    text + "```\n\nThat is all."
}

/// The bot's settings: the sandbox's own, with the model that `arguments` name.
fn configure(
    arguments: &Arguments,
    folder: &Path,
    url: &str,
    bot: &Account,
    allowed: &[&Account],
    channels: &[(&str, &str)],
) -> Result<Config, Exit> {
    let environment = |name: &str| match name {
        "MATTERMOST_URL" => Some(url.to_owned()),
        "MATTERMOST_BOT_TOKEN" => Some(bot.token.clone()),
        name => std::env::var(name).ok(),
    };
    let provider = match (&arguments.config, &arguments.model, arguments.provider) {
        (None, Some(model), Some((name, _))) => {
            format!("default_provider = {name:?}\ndefault_model = {model:?}")
        }
        _ => "default_provider = \"echo\"".to_owned(),
    };
    let people: Vec<&str> = allowed.iter().map(|account| account.id.as_str()).collect();
    let text = format!(
        "{provider}\n\
         [channels_config.mattermost]\n\
         allowed_users = {:?}\n\
         poll_interval_secs = 0.1\n\
         stream_mode = \"partial\"\n\
         [channels_config.mattermost.channels.{}]\n\
         mention_only = true\n",
        people, channels[1].1
    );
    let path = folder.join("config.toml");
    std::fs::write(&path, text).map_err(|error| Exit::Failure(error.to_string()))?;
    let mut config = config::load(Some(&path), &environment)?;
    if let Some(file) = &arguments.config {
        let theirs = config::load(Some(Path::new(file)), &environment)?;
        config.message_timeout = theirs.message_timeout;
        config.provider = theirs.provider;
        let own = std::mem::replace(&mut config.mattermost, theirs.mattermost);
        let settings = &mut config.mattermost;
        (settings.poll_interval, settings.channel_id) = (own.poll_interval, None);
        for allowed in std::iter::once(&mut settings.defaults)
            .chain(settings.channels.values_mut())
            .map(|channel| &mut channel.allowed_users)
        {
            if *allowed != Allowed::Everybody {
                *allowed = Allowed::These(people.iter().map(|id| UserId::from(*id)).collect());
            }
        }
        // Nobody knows the ids of the sandbox's channels before it runs.
        for (name, id) in channels {
            if let Some(channel) = settings.channels.remove(&ChannelId::from(*name)) {
                settings.channels.insert(ChannelId::from(*id), channel);
            }
        }
        if let Some(model) = &arguments.model {
            config.provider.model.clone_from(model);
        }
    }
    Ok(config)
}

/// How a post ended, as a line of the bot's log tells it.
enum Fate<'a> {
    Answered,
    Silence(&'a str),
}

fn fate<'a>(line: &'a str, post: &str) -> Option<Fate<'a>> {
    let (_, rest) = line.split_once(&format!("post {post} "))?;
    if line.contains("answered post") {
        return Some(Fate::Answered);
    }
    let (_, why) = rest.split_once("gets no answer: ")?;
    Some(Fate::Silence(why))
}

/// The bot's log, kept out of sight.
struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    fn install() -> Arc<Mutex<Vec<String>>> {
        let lines = Arc::default();
        let log = Log(Arc::clone(&lines));
        if log::set_boxed_logger(Box::new(log)).is_ok() {
            log::set_max_level(log::LevelFilter::Debug);
        }
        lines
    }
}

impl log::Log for Log {
    fn enabled(&self, metadata: &log::Metadata) -> bool {
        metadata.target().starts_with("prx")
    }

    fn log(&self, record: &log::Record) {
        let line = record.args().to_string();
        // Ten polls a second.
        if self.enabled(record.metadata()) && !line.starts_with("GET ") {
            lock(&self.0).push(line);
        }
    }

    fn flush(&self) {}
}

/// Standard output, in columns: where, who, what.
struct Screen {
    colour: bool,
    /// Only the beginnings of texts are shown.
    brief: bool,
}

const BOLD: &str = "1";
const DIM: &str = "2";
const CYAN: &str = "36";

impl Screen {
    fn new() -> Screen {
        let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Screen {
            colour: io::stdout().is_terminal() && !no_colour,
            brief: false,
        }
    }

    fn title(&self, text: &str) {
        print_line(&self.paint(BOLD, text));
    }

    fn note(&self, text: &str) {
        for line in wrap(text, WIDTH + INDENT - 2) {
            print_line(&format!("  {}", self.paint(DIM, &line)));
        }
    }

    fn say(&self, place: &str, name: &str, text: &str, dim: bool) {
        let mut lines = wrap(text, WIDTH);
        let most = if self.brief { SHOWN_LINES } else { CHAT_LINES };
        if lines.len() > most + 1 {
            lines.truncate(most);
            lines.push(format!("… ({} characters)", text.chars().count()));
        }
        let place = self.paint(DIM, &format!("{place:<10}"));
        let style = match name {
            _ if dim => DIM,
            "prxbot" => CYAN,
            _ => BOLD,
        };
        let mut head = format!("  {place} {} ", self.paint(style, &format!("{name:<7}")));
        for line in lines {
            let line = if dim { self.paint(DIM, &line) } else { line };
            print_line(format!("{head}{line}").trim_end());
            head = " ".repeat(INDENT);
        }
    }

    fn prompt(&self, place: &str, name: &str) {
        let place = self.paint(DIM, &format!("{place:<10}"));
        let name = self.paint(BOLD, &format!("{name:<6}"));
        let mut stdout = io::stdout();
        let _ = write!(stdout, "  {place} {name}{}", self.paint(DIM, "› "));
        let _ = stdout.flush();
    }

    fn paint(&self, style: &str, text: &str) -> String {
        match self.colour {
            true => format!("\x1b[{style}m{text}\x1b[0m"),
            false => text.to_owned(),
        }
    }
}

/// A message in one line → its lines.
fn unescaped(line: &str) -> String {
    line.replace("\\n", "\n")
}

/// What is typed on standard input, line by line, also while nobody waits for it.
fn typed_lines() -> mpsc::Receiver<String> {
    let (sender, typed) = mpsc::channel();
    thread::spawn(move || {
        let mut lines = io::stdin().lines().map_while(Result::ok);
        lines.try_for_each(|line| sender.send(line))
    });
    typed
}

/// Prints a line. That nobody reads it is no failure.
fn print_line(text: &str) {
    let _ = writeln!(io::stdout(), "{text}");
}

/// Lines of at most `width` characters, broken at spaces where there are any. A line that fits keeps
/// its spaces; a terminal obeys nothing in it.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    for line in text.lines() {
        let harmless = |c: char| if c.is_control() { ' ' } else { c };
        let mut rest: Vec<char> = line.chars().map(harmless).collect();
        while rest.len() > width {
            let space = rest[..=width].iter().rposition(|c| *c == ' ');
            let end = space.filter(|end| *end > 0).unwrap_or(width);
            lines.push(rest[..end].iter().collect());
            rest.drain(..end + usize::from(space == Some(end)));
        }
        lines.push(rest.iter().collect());
    }
    if lines.is_empty() {
        lines.push(String::new());
    }
    lines
}
