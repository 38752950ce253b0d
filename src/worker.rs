//! A worker: one answer, made in a process of its own. It reads what it is told, asks the model, and
//! reports to the loop that started it. When the loop is gone, or wants no answer any more, it ends.

use std::cell::RefCell;
use std::io::{self, ErrorKind, Read};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::os::unix::process::parent_id;
use std::rc::Rc;
use std::time::{Duration, Instant};

use log::{Level, LevelFilter, Log, Metadata, Record};

use crate::desk::input::{Input, put};
use crate::desk::report::{self, Done, Failure, ROOM, Report};
use crate::exit::Exit;
use crate::filetext;
use crate::http;
use crate::pipes;
use crate::provider::{self, Answer, Fact, Listener, ProviderError, Question};

/// The shortest time between two reports of text.
const BETWEEN_TEXTS: Duration = Duration::from_millis(250);
/// The longest wait without a look at the parent.
const SLICE: Duration = Duration::from_millis(500);
/// Bytes of a failure's two texts, and of the model's name, in a report. They fit together.
const TEXT: usize = 1800;

/// Makes the answer that standard input asks for.
pub(crate) fn run() -> Result<(), Exit> {
    let begun = Instant::now();
    let no_input = || Exit::Failure("prx answer --worker is for the bot's own use".into());
    // All of it, before the first report: the loop writes it without listening.
    let (mut input, rest) = Input::read(&mut io::stdin().lock()).ok_or_else(no_input)?;
    let enclosed = input.enclosed(&rest).ok_or_else(no_input)?;
    let bell = Bell::new(input.worker).map_err(Exit::failure)?;
    bell.report_log(input.level.parse().unwrap_or(LevelFilter::Off))
        .map_err(Exit::failure)?;
    let wanted = Wanted::new(input.parent).map_err(Exit::failure)?;
    let telling = Telling {
        bell,
        wanted,
        grow: input.job.grow,
        text: String::new(),
        told: 0,
        texts: 0,
        last: Instant::now(),
    };
    let mut teller = Teller(Rc::new(RefCell::new(telling)));
    let telling = teller.0.clone();
    let result = http::with_heartbeat(
        move || telling.borrow_mut().beat(),
        || {
            let job = &mut input.job;
            let time_left = || job.time_left.saturating_sub(begun.elapsed());
            for (index, reader, file) in enclosed.files {
                let text = filetext::read(&reader, &file, time_left());
                put(&mut job.conversation, index, &text);
            }
            let question = Question {
                conversation: &job.conversation,
                images: &enclosed.images,
                model: job.model.as_deref(),
                bot_name: &job.bot_name,
                several_speakers: job.several_speakers,
                time_left: time_left(),
            };
            provider::ask(&job.provider, &input.facts, &question, &mut teller)
        },
    );
    teller.0.borrow_mut().end(result);
    Ok(())
}

/// The way to the loop.
struct Bell {
    socket: UnixDatagram,
    worker: u64,
}

impl Bell {
    /// The loop's socket is standard output.
    fn new(worker: u64) -> io::Result<Bell> {
        let socket = io::stdout().as_fd().try_clone_to_owned()?.into();
        Ok(Bell { socket, worker })
    }

    /// Sends a report; the process ends if nobody listens any more.
    fn send(&self, number: u32, report: &Report) {
        let Some(datagram) = report::encode(self.worker, number, report) else {
            return;
        };
        loop {
            match self.socket.send(&datagram) {
                Ok(_) => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => pipes::leave(),
            }
        }
    }

    /// From now on log lines are reported.
    fn report_log(&self, level: LevelFilter) -> io::Result<()> {
        let bell = Bell {
            socket: self.socket.try_clone()?,
            worker: self.worker,
        };
        // It is set once in a process, whose first words these are.
        if log::set_logger(Box::leak(Box::new(bell))).is_ok() {
            log::set_max_level(level);
        }
        Ok(())
    }
}

impl Log for Bell {
    /// The libraries' lines are shown from warnings on, as in the loop.
    fn enabled(&self, metadata: &Metadata) -> bool {
        metadata.level() <= Level::Warn || metadata.target().starts_with("prx")
    }

    fn log(&self, record: &Record) {
        if self.enabled(record.metadata()) {
            let line = record.args().to_string();
            self.send(0, &Report::Line(record.level(), &line));
        }
    }

    fn flush(&self) {}
}

/// Tells whether there is still somebody who wants the answer.
struct Wanted {
    parent: u32,
    /// Standard input. The loop closes it when it wants no answer.
    input: UnixStream,
}

impl Wanted {
    fn new(parent: u32) -> io::Result<Wanted> {
        let input: UnixStream = io::stdin().as_fd().try_clone_to_owned()?.into();
        input.set_nonblocking(true)?;
        Ok(Wanted { parent, input })
    }

    /// Ends the process if nobody does.
    fn look(&self) {
        let waits = |error: io::Error| {
            matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
        };
        let is_open = (&self.input).read(&mut [0]).is_err_and(waits);
        if !is_open || parent_id() != self.parent {
            pipes::leave();
        }
    }
}

/// What was told of the answer.
struct Telling {
    bell: Bell,
    wanted: Wanted,
    /// Whether text is told before the end.
    grow: bool,
    text: String,
    /// Bytes of `text` that were told.
    told: usize,
    /// Reports of text.
    texts: u32,
    last: Instant,
}

impl Telling {
    /// Called whenever something blocks.
    fn beat(&mut self) {
        self.wanted.look();
        self.tell_if_due();
    }

    fn tell_if_due(&mut self) {
        if self.grow && self.last.elapsed() >= BETWEEN_TEXTS {
            self.tell(|piece| Report::Text(piece));
        }
    }

    /// Reports what is not told yet of the text.
    fn tell(&mut self, report: fn(&str) -> Report) {
        while self.told < self.text.len() {
            let piece = report::beginning(&self.text[self.told..], ROOM);
            self.bell.send(self.texts, &report(piece));
            self.texts += 1;
            self.told += piece.len();
            self.last = Instant::now();
        }
    }

    fn start_over(&mut self) {
        if self.told > 0 {
            self.bell.send(self.texts, &Report::StartOver);
            (self.told, self.texts) = (0, 0);
        }
        self.text.clear();
    }

    fn end(&mut self, result: Result<Answer, ProviderError>) {
        let report = match result {
            Ok(mut answer) => {
                // What counts is the answer, however it was written.
                if !answer.text.starts_with(&self.text[..self.told]) {
                    self.start_over();
                }
                self.text = std::mem::take(&mut answer.text);
                self.tell(|piece| Report::Rest(piece));
                answer.by = report::cut(&answer.by, TEXT).to_owned();
                Report::Done(Done {
                    bytes: self.text.len(),
                    answer,
                })
            }
            Err(error) => Report::Failed(Failure {
                class: error.class,
                person: report::cut(error.for_person(), TEXT).to_owned(),
                line: report::cut(&error.to_string(), TEXT).to_owned(),
            }),
        };
        self.bell.send(self.texts, &report);
    }
}

/// What the provider tells while it works.
struct Teller(Rc<RefCell<Telling>>);

impl Listener for Teller {
    fn text(&mut self, piece: &str) {
        let mut telling = self.0.borrow_mut();
        if telling.grow {
            telling.text.push_str(piece);
            telling.tell_if_due();
        }
    }

    fn start_over(&mut self) {
        self.0.borrow_mut().start_over();
    }

    fn learned(&mut self, fact: Fact) {
        self.0.borrow().bell.send(0, &Report::Learned(fact));
    }

    fn note(&mut self, line: &str) {
        log::debug!("{line}");
    }

    fn wait(&mut self, duration: Duration) {
        let begun = Instant::now();
        loop {
            let left = duration.saturating_sub(begun.elapsed());
            std::thread::sleep(left.min(SLICE));
            self.0.borrow_mut().beat();
            if left <= SLICE {
                return;
            }
        }
    }
}
