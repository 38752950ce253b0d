//! The way to an answer: one try after the other, at one provider after the other, with as much of the
//! conversation as the model takes, until the time is up.

use std::time::{Duration, Instant};

use super::error::{Class, ProviderError};
use super::learned::{Fact, FactKind};
use super::request::LIMITS;
use super::server::{Attempt, Failed, Said};
use super::settings::{Api, ProviderKind, ProviderSettings, is_local};
use super::shown::News;
use super::wait::Wait;
use super::{Answer, Listener, Message, Question, Role, command, echo};
use crate::http::Agent;
use crate::text::Problem;

/// The first pause between two tries; it doubles.
const PAUSE: Duration = Duration::from_millis(500);
/// The longest that `Listener::wait` is asked to wait at once.
const SLICE: Duration = Duration::from_millis(500);
/// Between two looks at a server in this network that is starting.
const LOADING: Duration = Duration::from_secs(2);
/// How long a hosted model that is being loaded is asked for at least.
const HOSTED_LOADING: Duration = Duration::from_secs(20);
/// A longer wait makes way for another provider.
const WORTH_WAITING: Duration = Duration::from_secs(10);
/// A shorter answer that reached its length limit may mean that the conversation left it no room.
const SHORT_TOKENS: u64 = 200;
/// In characters: a shorter conversation leaves room enough.
const LONG_CONVERSATION: usize = 2000;

/// The answer to `question`: after further tries for a failure that may pass, from the fallbacks when
/// those are used up, and with as much of the conversation as the model takes. Ends when
/// `question.time_left` is over. `facts`: what earlier questions found out.
pub fn ask(
    settings: &ProviderSettings,
    facts: &[Fact],
    question: &Question,
    listener: &mut dyn Listener,
) -> Result<Answer, ProviderError> {
    let candidates = candidates(settings, question.model);
    let mut asking = Asking {
        question,
        time: Time::new(question.time_left),
        facts: Facts(facts.to_vec()),
        ear: Ear {
            listener,
            heard: false,
        },
        agent: None,
        longest: None,
    };
    let mut failed: Option<ProviderError> = None;
    for (at, (source, model)) in candidates.iter().enumerate() {
        let others = candidates.len() - at - 1;
        let error = match asking.candidate(source, model, others > 0) {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        let is_over = error.class.is_final() || asking.time.left().is_zero();
        if others > 0 && !is_over {
            asking.ear.note(&format!("{error}; asking the next one"));
        }
        failed = Some(match failed {
            None => error,
            Some(first) => first.and(error),
        });
        if is_over {
            break;
        }
    }
    let failed =
        failed.unwrap_or_else(|| ProviderError::new(Class::Never, "nothing to ask".into()));
    match asking.longest {
        Some(answer) if !failed.class.is_final() => {
            asking.ear.note(&format!(
                "{failed}; the answer that broke off is all there is"
            ));
            asking.ear.replace(&answer.text);
            Ok(answer)
        }
        _ => Err(failed),
    }
}

/// Whether the settings can be used.
pub(crate) fn check(settings: &ProviderSettings) -> Result<(), Problem> {
    if settings.server().is_some() {
        Agent::new(settings.ca_file.as_deref())?;
    }
    Ok(())
}

/// Who is asked, in this order, and for which model. `model`: in place of the first one's own.
fn candidates<'a>(
    settings: &'a ProviderSettings,
    model: Option<&'a str>,
) -> Vec<(&'a ProviderSettings, &'a str)> {
    let first = model.unwrap_or(&settings.model);
    let mut candidates = vec![(settings, first)];
    let next = settings.model_fallbacks.get(first);
    candidates.extend(
        next.into_iter()
            .flatten()
            .map(|model| (settings, model.as_str())),
    );
    let fallbacks = settings.fallbacks.iter();
    candidates.extend(fallbacks.map(|fallback| (fallback, fallback.model.as_str())));
    candidates
}

/// One question on its way.
struct Asking<'a, 'l> {
    question: &'a Question<'a>,
    time: Time,
    facts: Facts,
    ear: Ear<'l>,
    /// Made when it is needed first: all providers have the same roots.
    agent: Option<Agent>,
    /// The longest text that came before a connection broke.
    longest: Option<Answer>,
}

/// What is left of the tries at one provider.
struct Tries {
    left: u32,
    pause: Duration,
    /// How long a hosted model was waited for while it was loaded.
    loading: Duration,
    /// An empty answer may be asked for once more.
    empty: bool,
    /// The configuration allows further tries.
    allowed: bool,
    /// Somebody else could be asked.
    has_others: bool,
    is_local: bool,
}

impl Tries {
    fn new(source: &ProviderSettings, has_others: bool) -> Tries {
        Tries {
            left: source.retries,
            pause: PAUSE,
            loading: Duration::ZERO,
            empty: source.retries > 0,
            allowed: source.retries > 0,
            has_others,
            is_local: source.server().is_some_and(|(_, _, base)| is_local(base)),
        }
    }

    /// How long to wait before the next try; `None`: there is none.
    fn next(&mut self, error: &ProviderError) -> Option<Duration> {
        let (pause, wait) = (self.pause, error.wait);
        match (error.class, wait) {
            (Class::Again, _) if self.allowed => {}
            (Class::Empty, Wait::Usual) => {
                return std::mem::take(&mut self.empty).then_some(Duration::ZERO);
            }
            _ => return None,
        }
        match wait {
            Wait::Hopeless => return None,
            Wait::Loading(after) if self.is_local && !self.has_others => {
                return Some(after.unwrap_or(LOADING).max(PAUSE));
            }
            Wait::Loading(after) if !self.has_others && self.loading < HOSTED_LOADING => {
                let wait = after.unwrap_or_default().max(pause);
                self.loading += wait;
                self.pause *= 2;
                return Some(wait);
            }
            _ => {}
        }
        self.left = self.left.checked_sub(1)?;
        self.pause *= 2;
        let wait = match wait {
            Wait::For(after) | Wait::Loading(Some(after)) => after.max(pause),
            Wait::Loading(None) => pause.max(LOADING),
            _ => pause,
        };
        (!self.has_others || wait <= WORTH_WAITING).then_some(wait)
    }
}

impl Asking<'_, '_> {
    /// The answer of one provider's model.
    fn candidate(
        &mut self,
        source: &ProviderSettings,
        model: &str,
        has_others: bool,
    ) -> Result<Answer, ProviderError> {
        let mut conversation = self.question.conversation.to_vec();
        let mut short: Option<Answer> = None;
        let mut tries = Tries::new(source, has_others);
        loop {
            let failed = match self.once(source, model, &conversation, has_others) {
                Ok(said) => {
                    let answer = said.answer(source.described_with(model));
                    let less = self.with_less(source, &answer, &conversation, short.is_some());
                    let Some(less) = less else {
                        return Ok(self.longer(answer, short));
                    };
                    (conversation, short) = (less, Some(answer));
                    self.ear.start_over();
                    continue;
                }
                Err(failed) => failed,
            };
            if let Some(answer) = short {
                self.ear.replace(&answer.text);
                return Ok(answer);
            }
            self.keep(failed.partial, source.described_with(model));
            self.ear.start_over();
            let error = failed.error;
            if error.class == Class::TooLong
                && !self.time.left().is_zero()
                && let Some(shorter) = halved(&conversation)
            {
                self.ear.note(&format!("{error}; asking with less of it"));
                conversation = shorter;
                continue;
            }
            match tries.next(&error) {
                Some(wait) if wait < self.time.left() => {
                    let millis = wait.as_millis();
                    self.ear
                        .note(&format!("{error}; trying again in {millis} ms"));
                    self.time.wait(wait, &mut self.ear);
                }
                _ => return Err(error),
            }
        }
    }

    /// One try.
    fn once(
        &mut self,
        source: &ProviderSettings,
        model: &str,
        conversation: &[Message],
        has_others: bool,
    ) -> Result<Said, Failed> {
        let (time_left, begun) = (self.time.left(), Instant::now());
        let bot_name = if self.question.several_speakers {
            self.question.bot_name
        } else {
            ""
        };
        let (api, base) = match &source.kind {
            ProviderKind::None => return Ok(self.ear.say(UNCONFIGURED)),
            ProviderKind::Echo => return echo::answer(conversation, &mut self.ear),
            ProviderKind::Command(words) => {
                // As for a server: the next one needs time too.
                let time_left = if has_others { time_left / 2 } else { time_left };
                return command::answer(words, conversation, bot_name, time_left, &mut self.ear);
            }
            ProviderKind::Server { api, base, .. } => (*api, base),
        };
        let agent = match &self.agent {
            Some(agent) => agent.clone(),
            None => Agent::new(source.ca_file.as_deref())
                .map_err(|problem| ProviderError::new(Class::Never, problem.to_string()))?
                .taking_any_encoding(),
        };
        self.agent = Some(agent.clone());
        let question = self.question;
        let attempt = Attempt {
            settings: source,
            api,
            base,
            model,
            conversation,
            images: question.images,
            bot_name,
            agent: &agent,
            time_left,
            begun,
            begin_by: has_others.then(|| begun + time_left / 2),
        };
        attempt.ask(&mut self.facts, &mut self.ear)
    }

    /// A shorter conversation for an answer that reached its limit after a few words though the
    /// request sets none: the conversation filled the model's context.
    fn with_less(
        &self,
        source: &ProviderSettings,
        answer: &Answer,
        conversation: &[Message],
        is_second: bool,
    ) -> Option<Vec<Message>> {
        let (api, ..) = source.server()?;
        let came = answer
            .tokens
            .map_or(answer.text.chars().count() as u64 / 3, |(_, came)| came);
        let sent: usize = conversation
            .iter()
            .map(|message| message.content.chars().count())
            .sum();
        let limits = ["n_predict", "num_predict"].into_iter().chain(LIMITS);
        let is_limited = limits
            .into_iter()
            .any(|name| source.parameters.contains_key(name))
            || (api == Api::Anthropic && u64::from(source.max_tokens) <= SHORT_TOKENS);
        let is_short = answer.cut && came < SHORT_TOKENS && sent >= LONG_CONVERSATION;
        if !is_short || is_limited || is_second || self.time.left().is_zero() {
            return None;
        }
        halved(conversation)
    }

    /// Of the answer to half of the conversation and the one to all of it, the one that says more.
    fn longer(&mut self, answer: Answer, first: Option<Answer>) -> Answer {
        match first {
            Some(first) if answer.cut && first.text.len() > answer.text.len() => {
                self.ear.replace(&first.text);
                first
            }
            _ => answer,
        }
    }

    fn keep(&mut self, partial: String, by: String) {
        let longest = self.longest.as_ref().map_or(0, |answer| answer.text.len());
        if partial.len() > longest {
            self.longest = Some(Answer {
                text: partial,
                broke_off: true,
                by,
                ..Answer::default()
            });
        }
    }
}

impl Said {
    fn answer(self, by: String) -> Answer {
        Answer {
            text: self.text,
            cut: self.cut,
            broke_off: false,
            by,
            tokens: self.tokens,
            unseen_images: self.unseen_images,
        }
    }
}

/// Half of the conversation, the newest part; `None` when only the question is left. The system
/// message stays, and the first message of a thread as long as there is any other to leave out.
fn halved(conversation: &[Message]) -> Option<Vec<Message>> {
    let system = conversation
        .iter()
        .take_while(|message| message.role == Role::System)
        .count();
    let (system, turns) = conversation.split_at(system);
    let (question, before) = turns.split_last()?;
    let (root, middle) = match before {
        [] => return None,
        [_] => (&[][..], &[][..]),
        [first, ..] if first.role == Role::User => before.split_at(1),
        _ => before.split_at(0),
    };
    let newest = &middle[middle.len().div_ceil(2)..];
    Some([system, root, newest, std::slice::from_ref(question)].concat())
}

/// Who listens, and whether there is something to take back.
pub(super) struct Ear<'l> {
    listener: &'l mut dyn Listener,
    heard: bool,
}

impl Ear<'_> {
    pub(super) fn text(&mut self, piece: &str) {
        if !piece.is_empty() {
            self.heard = true;
            self.listener.text(piece);
        }
    }

    pub(super) fn news(&mut self, news: News) {
        if news.start_over {
            self.start_over();
        }
        self.text(&news.text);
    }

    pub(super) fn start_over(&mut self) {
        if std::mem::take(&mut self.heard) {
            self.listener.start_over();
        }
    }

    /// All that was heard gives way to `text`.
    fn replace(&mut self, text: &str) {
        self.start_over();
        self.text(text);
    }

    /// A whole answer at once.
    pub(super) fn say(&mut self, text: &str) -> Said {
        self.text(text);
        Said {
            text: text.to_owned(),
            ..Said::default()
        }
    }

    pub(super) fn note(&mut self, line: &str) {
        self.listener.note(line);
    }
}

/// What is known of servers.
pub(super) struct Facts(Vec<Fact>);

impl Facts {
    /// What is known of a model at a base, and of all models there.
    pub(super) fn of(&self, base: &str, model: &str) -> Vec<FactKind> {
        let is_about =
            |fact: &&Fact| fact.base == base && [model, ""].contains(&fact.model.as_str());
        let facts = self.0.iter().filter(is_about);
        facts.map(|fact| fact.kind).collect()
    }

    pub(super) fn learn(&mut self, base: &str, model: &str, kind: FactKind, ear: &mut Ear) {
        let fact = Fact {
            base: base.to_owned(),
            model: model.to_owned(),
            kind,
        };
        self.0.push(fact.clone());
        ear.listener.learned(fact);
    }
}

/// How much of a question's time is left. What the listener waits counts in full, also where a test
/// makes it pass in no time.
struct Time {
    limit: Duration,
    begun: Instant,
    waited: Duration,
    /// How long the waiting took by the clock.
    passed: Duration,
}

impl Time {
    fn new(limit: Duration) -> Time {
        Time {
            limit,
            begun: Instant::now(),
            waited: Duration::ZERO,
            passed: Duration::ZERO,
        }
    }

    fn left(&self) -> Duration {
        let elapsed = self.begun.elapsed().saturating_sub(self.passed) + self.waited;
        self.limit.saturating_sub(elapsed)
    }

    fn wait(&mut self, duration: Duration, ear: &mut Ear) {
        let begun = Instant::now();
        let mut left = duration;
        while !left.is_zero() {
            let slice = left.min(SLICE);
            ear.listener.wait(slice);
            left -= slice;
        }
        self.waited += duration;
        self.passed += begun.elapsed();
    }
}

/// Stands in when no provider is configured.
const UNCONFIGURED: &str = "This channel works: I can read it and write to it. I have no language model yet. Add two lines \
     at the top of my config file, for example:\n\
     ```\n\
     default_provider = \"ollama\"\n\
     default_model = \"qwen3\"\n\
     ```\n\
     A hosted one, such as `openai` or `anthropic`, also needs `api_key = \"…\"`.";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_as_long_as_they_may_help() {
        let loading = Wait::Loading(None);
        let after = |seconds| Wait::For(Duration::from_secs(seconds));
        for (name, base, has_others, wait, seconds) in [
            (
                "usual",
                "https://h.example",
                false,
                Wait::Usual,
                &[0.5, 1.0][..],
            ),
            ("a hint", "https://h.example", false, after(7), &[7.0, 7.0]),
            (
                "a short hint",
                "https://h.example",
                false,
                after(0),
                &[0.5, 1.0],
            ),
            ("a long hint", "https://h.example", true, after(11), &[]),
            ("not today", "https://h.example", false, Wait::Hopeless, &[]),
            (
                "a hosted model that loads",
                "https://h.example",
                false,
                loading,
                &[0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0],
            ),
            (
                "with somebody else to ask",
                "https://h.example",
                true,
                loading,
                &[2.0, 2.0],
            ),
            ("a local one", "http://gpu:1", false, loading, &[2.0; 20]),
            (
                "that says at once",
                "http://gpu:1",
                false,
                Wait::Loading(Some(Duration::ZERO)),
                &[0.5; 20],
            ),
            (
                "that says how long",
                "http://gpu:1",
                false,
                Wait::Loading(Some(Duration::from_secs(5))),
                &[5.0; 20],
            ),
        ] {
            let source = ProviderSettings {
                kind: ProviderKind::Server {
                    api: Api::OpenAi,
                    name: "custom".into(),
                    base: base.into(),
                },
                ..ProviderSettings::default()
            };
            let mut tries = Tries::new(&source, has_others);
            let error = ProviderError::new(Class::Again, String::new()).waiting(wait);
            let waits: Vec<f64> = (0..20)
                .map_while(|_| Some(tries.next(&error)?.as_secs_f64()))
                .collect();
            assert_eq!(waits, seconds, "{name}");
        }
    }

    #[test]
    fn halving_leaves_out_the_oldest_until_only_the_question_is_left() {
        let message = |short: &str| {
            let role = match short.as_bytes()[0] {
                b's' => Role::System,
                b'u' => Role::User,
                _ => Role::Assistant,
            };
            Message::new(role, short)
        };
        let messages = |list: &str| list.split_whitespace().map(message).collect::<Vec<_>>();
        for (before, after) in [
            ("s u1 a1 u2 a2 u3 a3 u4", Some("s u1 u3 a3 u4")),
            ("s u1 u3 a3 u4", Some("s u1 a3 u4")),
            ("s u1 a3 u4", Some("s u1 u4")),
            ("s u1 u4", Some("s u4")),
            ("s u4", None),
            ("u4", None),
            ("a1 u1 a2 u2", Some("a2 u2")),
            ("a2 u2", Some("u2")),
            ("s", None),
            ("", None),
        ] {
            assert_eq!(halved(&messages(before)), after.map(messages), "{before}");
        }
    }
}
