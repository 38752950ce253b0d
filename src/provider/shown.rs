//! What of a model's text is for the reader: not the reasoning before the answer, not the marks of a
//! chat template after it, not the model's own name before it. As the text grows, what is certain to
//! stay is handed on.

/// Reasoning between two marks, which comes before an answer.
struct Marks {
    open: &'static str,
    close: &'static str,
    /// The closing mark ends reasoning whose opening mark a chat template put into the prompt.
    alone: bool,
    /// The opening mark may as well be plain words: without its closing mark it is.
    plain: bool,
}

const fn tags(open: &'static str, close: &'static str) -> Marks {
    Marks {
        open,
        close,
        alone: true,
        plain: false,
    }
}

const fn blocks(open: &'static str, close: &'static str) -> Marks {
    Marks {
        alone: false,
        ..tags(open, close)
    }
}

const fn analysis(open: &'static str) -> Marks {
    Marks {
        plain: true,
        ..tags(open, "assistantfinal")
    }
}

/// Compared without regard to case. Of two that begin alike the longer one stands first.
const REASONING: &[Marks] = &[
    tags("<think>", "</think>"),
    tags("<thinking>", "</thinking>"),
    tags("<thought>", "</thought>"),
    tags("<thoughts>", "</thoughts>"),
    tags("<reasoning>", "</reasoning>"),
    tags("<seed:think>", "</seed:think>"),
    tags("<longcat_think>", "</longcat_think>"),
    tags("<mm:think>", "</mm:think>"),
    tags("<antThinking>", "</antThinking>"),
    tags("<thought_process>", "</thought_process>"),
    tags("[THINK]", "[/THINK]"),
    tags("◁think▷", "◁/think▷"),
    tags("<|begin_of_thought|>", "<|end_of_thought|>"),
    // gpt-oss; only what is said in the channel `final` is for the reader.
    blocks("<|channel|>analysis", FINAL),
    blocks("<|channel|>commentary", FINAL),
    // The same where a server leaves the marks out.
    analysis("analysisI "),
    analysis("analysisNeed "),
    analysis("analysisThe "),
    analysis("analysisThis "),
    analysis("analysisUser "),
    analysis("analysisWe "),
    // Gemma.
    blocks("<|channel>thought", "<channel|>"),
    blocks("<unused94>thought", "<unused95>"),
    // Apertus.
    blocks("<|inner_prefix|>", "<|inner_suffix|>"),
    // Cohere.
    blocks("<|START_THINKING|>", "<|END_THINKING|>"),
    // Open WebUI.
    blocks("<details type=\"reasoning\"", "</details>"),
    // Granite 3.2.
    Marks {
        plain: true,
        ..blocks("Here is my thought process:", "Here is my response:")
    },
];

const FINAL: &str = "<|channel|>final";
/// What may stand between `FINAL` and the answer ends with this.
const MESSAGE: &str = "<|message|>";

/// Marks that may stand right before an answer.
const BEFORE: &[&str] = &[
    "<|start|>assistant",
    "<|im_start|>assistant",
    "<|start_header_id|>assistant<|end_header_id|>",
    "<start_of_turn>model",
    "<|begin_of_text|>",
    "<|assistant|>",
    "<|START_RESPONSE|>",
    "<|begin_of_solution|>",
];
/// Marks that wrap an answer only where reasoning came before it.
const WRAPS: &[(&str, &str)] = &[("<answer>", "</answer>"), ("<response>", "</response>")];

/// Marks that chat templates put after an answer.
const AFTER: &[&str] = &[
    "</s>",
    "<|im_end|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|end|>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<|eot|>",
    "<|end_of_turn|>",
    "<|endofturn|>",
    "[|endofturn|]",
    "<|observation|>",
    "<|assistant_end|>",
    "<|role_end|>",
    "<end_of_utterance>",
    "[e~[",
    "<|return|>",
    "<end_of_turn>",
    "<turn|>",
    "<|END_RESPONSE|>",
    "<|END_OF_TURN_TOKEN|>",
    "<|end_of_solution|>",
    "<｜end▁of▁sentence｜>",
    "<|user|>",
    "<|assistant|>",
    "<|im_start|>",
    "<|EOT|>",
    "<|eos|>",
    "<｜User｜>",
    "<eos>",
    "</answer>",
    "</response>",
];

/// The longest answer, in characters. What comes after is cut off.
const LONGEST: usize = 200_000;
/// The most that is kept of a text, reasoning included, in bytes.
const LARGEST: usize = 4 << 20;

/// Where the reading of the text is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    /// Something that is not for the reader may begin at `Shown::at`.
    #[default]
    Before,
    /// Reasoning; its closing mark is looked for from `Shown::at` on.
    Within(usize),
    /// The answer, which begins at `Shown::at`.
    Answer,
}

/// A model's text as far as it has come.
#[derive(Debug, Default)]
pub(super) struct Shown {
    raw: String,
    phase: Phase,
    /// Where what `phase` is about begins.
    at: usize,
    /// Where a closing mark is looked for.
    from: usize,
    /// The first closing mark that stands in code.
    in_code: Option<usize>,
    /// A closing mark without an opening one may come.
    alone: bool,
    /// How often reasoning was taken off.
    blocks: usize,
    /// The last reasoning had a further opening mark in it: another closing one may follow.
    nested: bool,
    /// The end of what was handed on.
    sent: usize,
    /// Characters of the answer.
    characters: usize,
    /// The bot's own name, which may stand before the answer; empty: it may not.
    name: String,
    /// Nothing is handed on before a closing mark, as this model begins without an opening one.
    holds: bool,
    /// The mark that wraps the answer at its end.
    wrapped: &'static str,
    /// Reasoning ended that had no opening mark.
    pub(super) unopened: bool,
    /// The text is too long, and the rest was left out.
    pub(super) overflows: bool,
}

/// What is new about the answer.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct News {
    /// What was handed on before is no part of the answer.
    pub(super) start_over: bool,
    /// The next piece of the answer.
    pub(super) text: String,
}

impl Shown {
    /// `name`: the bot's, if others speak with theirs before what they say. `unopened`: answers of
    /// this model begin with reasoning that has no opening mark.
    pub(super) fn new(name: &str, unopened: bool) -> Shown {
        Shown {
            alone: true,
            name: name.to_owned(),
            holds: unopened,
            ..Shown::default()
        }
    }

    /// Takes the next piece.
    pub(super) fn push(&mut self, piece: &str) {
        let mut taken = piece;
        if self.phase == Phase::Answer {
            let room = LONGEST.saturating_sub(self.characters);
            if let Some((at, _)) = piece.char_indices().nth(room) {
                taken = &piece[..at];
                self.overflows = true;
            }
            self.characters += taken.chars().count();
        }
        self.overflows |= self.raw.len() + taken.len() > LARGEST;
        if self.raw.len() <= LARGEST {
            self.raw.push_str(taken);
        }
    }

    /// Everything that came.
    pub(super) fn raw(&self) -> &str {
        &self.raw
    }

    /// Whether reasoning began whose end has not come.
    pub(super) fn is_within(&self) -> bool {
        matches!(self.phase, Phase::Within(_))
    }

    /// What became certain since the last call.
    pub(super) fn news(&mut self) -> News {
        let start_over = self.advance(false);
        let mut text = String::new();
        if self.phase == Phase::Answer && !self.holds {
            let end = self.certain();
            if end > self.sent {
                text.push_str(&self.raw[self.sent..end]);
                self.sent = end;
            }
        }
        News { start_over, text }
    }

    /// The whole answer, once nothing more comes; empty: there is none. What was handed on and the
    /// last news together are the answer.
    pub(super) fn end(&mut self) -> (String, News) {
        let start_over = self.advance(true);
        let mut answer = match self.phase {
            Phase::Answer => &self.raw[self.at..],
            _ => "",
        };
        loop {
            answer = answer.trim_end();
            let Some(mark) = AFTER.iter().find(|mark| answer.ends_with(**mark)) else {
                break;
            };
            let before = &answer[..answer.len() - mark.len()];
            if !self.is_templates(mark, before) {
                break;
            }
            answer = before;
        }
        let sent = self.sent.saturating_sub(self.at).min(answer.len());
        let (answer, text) = (answer.to_owned(), answer[sent..].to_owned());
        self.sent = self.at + answer.len();
        (answer, News { start_over, text })
    }

    /// Whether a mark at the end of an answer belongs to the template.
    fn is_templates(&self, mark: &str, before: &str) -> bool {
        match mark {
            "</s>" if find(before, "<s>", 0).is_some() => false,
            "</answer>" | "</response>" if self.wrapped != mark => false,
            _ => !is_code(before),
        }
    }

    /// Reads on as far as the text allows; true: what was handed on is void.
    fn advance(&mut self, ended: bool) -> bool {
        let mut void = false;
        loop {
            let sent = self.phase == Phase::Answer && self.sent > self.at;
            let goes_on = match self.phase {
                Phase::Before => self.read_before(ended),
                Phase::Within(index) => self.read_within(&REASONING[index], ended),
                Phase::Answer => self.find_closing_alone(ended),
            };
            if !goes_on {
                return void;
            }
            void |= sent;
        }
    }

    /// What stands before the answer; false: more text must come.
    fn read_before(&mut self, ended: bool) -> bool {
        self.at += self.raw.len() - self.at - self.raw[self.at..].trim_start().len();
        let rest = &self.raw[self.at..];
        if rest.is_empty() {
            return false;
        }
        if let Some(index) = REASONING.iter().position(|marks| starts(rest, marks.open)) {
            self.from = self.at + REASONING[index].open.len();
            (self.in_code, self.phase) = (None, Phase::Within(index));
            return true;
        }
        if starts(rest, FINAL) {
            return match (find(rest, MESSAGE, FINAL.len()), ended) {
                (None, false) => false,
                (at, _) => self.skip(at.map_or(rest.len(), |at| at + MESSAGE.len())),
            };
        }
        if let Some(mark) = BEFORE.iter().find(|mark| starts(rest, mark)) {
            return self.skip(mark.len());
        }
        let (wraps, closing) = match self.blocks {
            0 => (&[][..], &[][..]),
            _ => (WRAPS, REASONING),
        };
        let closing = closing.iter().filter(|marks| marks.alone);
        if let Some(marks) = closing.clone().find(|marks| starts(rest, marks.close)) {
            return self.skip(marks.close.len());
        }
        if let Some((open, close)) = wraps.iter().find(|(open, _)| starts(rest, open)) {
            self.wrapped = close;
            return self.skip(open.len());
        }
        let names = self.names();
        if let Some(name) = names.iter().find(|name| starts(rest, name)) {
            match rest[name.len()..].chars().next() {
                None if !ended => return false,
                None | Some(' ' | '\n' | '\t' | '\u{a0}') => {
                    self.name.clear();
                    return self.skip(name.len());
                }
                Some(_) => {}
            }
        }
        let opens = REASONING.iter().map(|marks| marks.open);
        let mut marks = opens
            .chain(closing.map(|marks| marks.close))
            .chain(BEFORE.iter().copied())
            .chain(wraps.iter().map(|(open, _)| *open))
            .chain(names.iter().map(String::as_str))
            .chain([FINAL]);
        if !ended && marks.any(|mark| starts(mark, rest)) {
            return false;
        }
        self.begin();
        true
    }

    fn skip(&mut self, length: usize) -> bool {
        self.at += length;
        true
    }

    /// The forms in which a model puts the bot's name before what it says.
    fn names(&self) -> Vec<String> {
        match self.name.as_str() {
            "" => Vec::new(),
            name => vec![
                format!("{name}:"),
                format!("@{name}:"),
                format!("**{name}:**"),
                format!("**{name}**:"),
                format!("[{name}]:"),
            ],
        }
    }

    /// The answer begins here.
    fn begin(&mut self) {
        self.phase = Phase::Answer;
        (self.from, self.sent) = (self.at, self.at);
        self.alone = self.blocks == 0 || self.nested;
        let answer = &self.raw[self.at..];
        if let Some((end, _)) = answer.char_indices().nth(LONGEST) {
            self.raw.truncate(self.at + end);
            self.overflows = true;
        }
        self.characters = self.raw[self.at..].chars().count();
    }

    /// Reasoning; false: its end has not come.
    fn read_within(&mut self, marks: &Marks, ended: bool) -> bool {
        let close = marks.close;
        let at = loop {
            let Some(at) = find(&self.raw, close, self.from) else {
                self.from = self.from.max(floor(&self.raw, close.len()));
                // Some models close it by another name.
                let other = ended.then(|| self.first_closing(self.at)).flatten();
                match (self.in_code.filter(|_| ended), other) {
                    (Some(at), _) => break at,
                    _ if ended && marks.plain => self.begin(),
                    (None, Some((_, other))) => {
                        (self.phase, self.from) = (Phase::Within(other), self.at);
                    }
                    (None, None) => return false,
                }
                return true;
            };
            // One that the reasoning is about, if another one follows.
            let mut before = &self.raw[self.at..at];
            if starts(before, marks.open) {
                before = &before[marks.open.len()..];
            }
            if !before.ends_with('`') && !is_fenced(before) {
                break at;
            }
            self.in_code.get_or_insert(at);
            self.from = at + close.len();
        };
        let end = at + close.len();
        let end = match (close, find(&self.raw, MESSAGE, end)) {
            (FINAL, Some(at)) => at + MESSAGE.len(),
            (FINAL, None) if !ended => return false,
            _ => end,
        };
        self.nested = find(&self.raw[..at], marks.open, self.at + 1).is_some();
        self.blocks += 1;
        (self.phase, self.at) = (Phase::Before, end);
        true
    }

    /// A closing mark whose opening one never came, and no code before it: what stands before it was
    /// reasoning. False: there is none.
    fn find_closing_alone(&mut self, ended: bool) -> bool {
        while self.alone {
            let Some((at, index)) = self.first_closing(self.from) else {
                self.from = self.from.max(floor(&self.raw, LONGEST_MARK));
                // No mark counts after code, so there is nothing to wait for.
                self.holds &= !self.raw[self.at..].contains('`');
                return false;
            };
            let marks = &REASONING[index];
            let (before, end) = (&self.raw[self.at..at], at + marks.close.len());
            let after = self.raw[end..].chars().next();
            if after.is_none() && !ended {
                return false;
            }
            if before.contains('`') {
                (self.alone, self.holds) = (false, false);
                return false;
            }
            // In a sentence about the mark.
            let is_quoted = before.ends_with(['"', '\'', '“', '('])
                || (marks.plain && before.ends_with(char::is_whitespace));
            let is_word =
                is_quoted || matches!(after, Some('.' | ',' | ';' | ':' | '!' | '?' | ')'));
            if is_word || find(before, marks.open, 0).is_some() {
                self.from = end;
                continue;
            }
            self.unopened |= self.blocks == 0;
            (self.holds, self.nested) = (false, false);
            self.blocks += 1;
            (self.phase, self.at) = (Phase::Before, end);
            return true;
        }
        false
    }

    /// The first closing mark from `from` on that needs no opening one, and whose it is.
    fn first_closing(&self, from: usize) -> Option<(usize, usize)> {
        let marks = REASONING.iter().enumerate();
        marks
            .filter(|(_, marks)| marks.alone)
            .filter_map(|(index, marks)| Some((find(&self.raw, marks.close, from)?, index)))
            .min()
    }

    /// Up to where the answer will stay as it is: no white space at its end, no mark, no part of one.
    fn certain(&self) -> usize {
        let mut end = self.raw.len();
        loop {
            end = self.sent + self.raw[self.sent..end].trim_end().len();
            let from = floor(&self.raw[..end], LONGEST_MARK).max(self.sent);
            let tail = &self.raw[from..end];
            let is_mark = |tail: &str| {
                let closing = REASONING.iter().filter(|marks| self.alone && marks.alone);
                AFTER.iter().any(|mark| starts(mark, tail))
                    || closing.into_iter().any(|marks| starts(marks.close, tail))
            };
            let begins = tail
                .char_indices()
                .filter(|(_, c)| matches!(c, '<' | '[' | '◁'));
            match begins.map(|(at, _)| at).find(|at| is_mark(&tail[*at..])) {
                Some(at) => end = from + at,
                None => return end,
            }
        }
    }
}

/// In bytes.
const LONGEST_MARK: usize = 32;

/// Whether `text` starts with `mark`, in any case of its Latin letters.
fn starts(text: &str, mark: &str) -> bool {
    let start = text.as_bytes().get(..mark.len());
    start.is_some_and(|start| start.eq_ignore_ascii_case(mark.as_bytes()))
}

/// Where `mark` stands in `text` from `from` on, in any case of its Latin letters.
fn find(text: &str, mark: &str, from: usize) -> Option<usize> {
    let (bytes, mark) = (text.as_bytes().get(from..)?, mark.as_bytes());
    let first = *mark.first()?;
    let mut windows = bytes.windows(mark.len());
    windows
        .position(|window| {
            window[0].eq_ignore_ascii_case(&first) && window.eq_ignore_ascii_case(mark)
        })
        .map(|at| from + at)
}

/// The last position that is at least `back` bytes before the end and begins a character.
fn floor(text: &str, back: usize) -> usize {
    let mut at = text.len().saturating_sub(back);
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// Whether what follows `text` is in a code fence that it opened.
fn is_fenced(text: &str) -> bool {
    let is_fence = |line: &&str| {
        let line = line.trim_start();
        line.starts_with("```") || line.starts_with("~~~")
    };
    text.lines().filter(is_fence).count() % 2 == 1
}

/// Whether what follows `text` is code.
fn is_code(text: &str) -> bool {
    let last = text.rsplit('\n').next().unwrap_or_default();
    is_fenced(text) || last.matches('`').count() % 2 == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The answer, fed in these pieces, and what was heard while it came.
    fn fed<'a>(
        pieces: impl IntoIterator<Item = &'a str>,
        name: &str,
        unopened: bool,
    ) -> (String, bool) {
        let mut shown = Shown::new(name, unopened);
        let (mut heard, mut void) = (String::new(), false);
        let mut hear = |news: News| {
            if news.start_over {
                heard.clear();
                void = true;
            }
            heard += &news.text;
        };
        for piece in pieces {
            shown.push(piece);
            hear(shown.news());
        }
        let (answer, news) = shown.end();
        hear(news);
        assert_eq!(heard, answer, "what was heard is the answer");
        (answer, void)
    }

    fn answer(text: &str) -> String {
        let whole = fed([text], "prxbot", false).0;
        let singly = text
            .char_indices()
            .map(|(at, c)| &text[at..at + c.len_utf8()]);
        assert_eq!(fed(singly, "prxbot", false).0, whole, "in pieces: {text}");
        for (at, _) in text.char_indices() {
            assert_eq!(
                fed([&text[..at], &text[at..]], "prxbot", false).0,
                whole,
                "{at}: {text}"
            );
        }
        whole
    }

    // A case per line.
    #[rustfmt::skip]
    #[test]
    fn reasoning_before_the_answer_is_taken_off_in_all_its_marks() {
        for text in [
            "<think>plan</think>Four.",
            "  <THINK>\nplan\n</Think>\n\nFour.\n",
            "<think></think>Four.",
            "<think>a</think>\n<think>b</think>Four.",
            "<thinking>plan</thinking> Four.",
            "<thought>plan</thought>Four.",
            "<thoughts>plan</thoughts>Four.",
            "<reasoning>plan</reasoning>Four.",
            "<seed:think>plan</seed:think>Four.",
            "[THINK]plan[/THINK]Four.",
            "◁think▷plan◁/think▷Four.",
            "<|begin_of_thought|>plan<|end_of_thought|>\n<|begin_of_solution|>Four.<|end_of_solution|>",
            "<|channel|>analysis<|message|>plan<|end|><|start|>assistant<|channel|>final<|message|>Four.",
            "<|channel|>analysis<|message|>plan<|end|><|start|>assistant<|channel|>commentary<|message|>so<|end|><|start|>assistant<|channel|>final <|constrain|>text<|message|>Four.<|return|>",
            "<|channel|>final<|message|>Four.",
            "<|start|>assistant<|channel|>final<|message|>Four.<|end|>",
            "analysisWe need to add.assistantfinalFour.",
            "<|channel>thought\nplan<channel|>Four.<turn|>",
            "<|START_THINKING|>plan<|END_THINKING|><|START_RESPONSE|>Four.<|END_RESPONSE|>",
            "<details type=\"reasoning\" done=\"true\" duration=\"6\">\n<summary>Thought</summary>\n> plan\n</details>\nFour.",
            "<longcat_think>\nplan\n</longcat_think>\nFour.",
            "<unused94>thought\nplan<unused95>Four.",
            "<|inner_prefix|>plan<|inner_suffix|>Four.<|assistant_end|>",
            "plan</longcat_think>Four.",
            "<think>plan</think>\n<answer>\nFour.\n</answer>",
            "<think>plan</think><response>Four.</response>",
            "Here is my thought process:\nplan\n\nHere is my response:\nFour.",
            "plan</think>Four.",
            "plan\n</thinking>\n\nFour.",
            "plan[/THINK]Four.",
            "plan◁/think▷Four.",
            "<think>a <think> b</think> c</think>Four.",
            "<think>the tag `</think>` ends it</think>Four.",
            "<think>```\nx</think>\n```\nplan</think>Four.",
            "<think>prxbot: plan</think>prxbot: Four.",
            "<think>plan</thinking>Four.",
            "<thinking>größer</think>\nFour.",
            "<think>plan</think></think>Four.",
            "<think>plan</think>\n</think>\n\nFour.",
            "<mm:think>plan</mm:think>Four.",
            "<antThinking>plan</antThinking>Four.",
            "<thought_process>plan</thought_process>Four.",
            "analysisNeed to add.assistantfinalFour.",
            "We need to add. Let's produce final output.assistantfinalFour.",
            "<|im_start|>assistant\nFour.",
            "<|start_header_id|>assistant<|end_header_id|>\n\nFour.",
            "<start_of_turn>model\nFour.<end_of_turn>",
            "<think>plan</think><|im_start|>assistant\nFour.<|im_end|>",
        ] {
            assert_eq!(answer(text), "Four.", "{text}");
        }
        for text in ["<think>hm", "hm</think>", "<|channel|>analysis<|message|>hm", "[THINK]hm", "◁think▷", "<think>hm</think> ", "<|channel|>final"] {
            assert_eq!(answer(text), "", "{text}");
        }
    }

    // A case per line.
    #[rustfmt::skip]
    #[test]
    fn an_answer_about_marks_stays_word_for_word() {
        for text in [
            "Use this:\n```python\nre.sub(r'<think>.*?</think>', '', text)\n```\nIt works.",
            "Some models begin with <think> and then plan. That is normal.",
            "They write <think>plan</think> and then the answer.",
            "Some models end their plan with </think>. That is normal.",
            "Look for assistantfinal in what it writes.",
            "The mark (</think>) ends it; \"</think>\" too.",
            "Use `<think>` and `</think>` there.",
            "`code` first, then </think> as a word",
            "The token <|im_end|> ends a turn.",
            "<s>10</s>",
            "Models of EXAONE end with [|endofturn|] each time.",
            "They end with `[e~[`",
            "<unused94> is a token of Gemma.",
            "Strike it: <S>10</s>",
            "a < b <thin",
            "[THIN",
            "The fence:\n```\n<|im_end|>",
            "It ends with `<|im_end|>",
            "analysis of the data: fine",
            "analysisWe called the variable that.",
            "<answer>42</answer>",
            "prxbot is my name.",
            "prxbot:4000 is the port.",
            "Note: fine.",
            "Four. prxbot: said so.",
            "<details><summary>More</summary>x</details>",
        ] {
            assert_eq!(answer(text), text, "{text}");
        }
        for (text, expected) in [
            ("<think>plan</think>Remove it:\n```\ns/<think>.*<\\/think>//\ns|</think>||\n```", "Remove it:\n```\ns/<think>.*<\\/think>//\ns|</think>||\n```"),
            ("<think>plan</think>End it with </think> please", "End it with </think> please"),
            ("one <think>b</think> two", "one <think>b</think> two"),
        ] {
            assert_eq!(answer(text), expected, "{text}");
        }
    }

    // A case per line.
    #[rustfmt::skip]
    #[test]
    fn marks_of_a_template_and_the_bots_name_are_taken_off() {
        for text in [
            "Four.</s>", "Four.<|im_end|>", "Four.<|eot_id|>", "Four.<|end|>", "Four.<|endoftext|>", "Four.<|return|>",
            "Four.<end_of_turn>\n", "Four.<turn|>", "Four. <|im_end|>\n<|endoftext|>", "Four.<｜end▁of▁sentence｜>", "Four.<|eom_id|>",
            "Four.<|EOT|>", "Four.<|im_end|>\n<|im_start|>", "Four.<｜end▁of▁sentence｜><｜User｜>", "Four.<|eot|>", "Four.<|end_of_turn|>", "Four.[|endofturn|]", "Four.<|endofturn|>\n", "Four.<|observation|>", "Four.<|role_end|>", "Four.<end_of_utterance>", "Four.[e~[",
            "prxbot: Four.", "PrxBot:\nFour.", "@prxbot: Four.", "**prxbot:** Four.", "**prxbot**: Four.", "[prxbot]: Four.",
        ] {
            assert_eq!(answer(text), "Four.", "{text}");
        }
        assert_eq!(answer("prxbot: prxbot: twice"), "prxbot: twice");
        assert_eq!(answer("prxbot:"), "");
        assert_eq!(fed(["prxbot: Four."], "", false).0, "prxbot: Four.");
    }

    #[test]
    fn what_is_heard_early_is_part_of_the_answer() {
        let heard = |pieces: &[&str], unopened| {
            let mut shown = Shown::new("", unopened);
            let news = pieces.iter().map(|piece| {
                shown.push(piece);
                shown.news().text
            });
            news.collect::<Vec<_>>().join("|")
        };
        assert_eq!(
            heard(&["Four", " is ", "it.</", "s", "x"], false),
            "Four| is| it.||</sx"
        );
        assert_eq!(
            heard(&["<thi", "nk>plan</think", ">Four", "."], false),
            "||Four|."
        );
        assert_eq!(heard(&["plan</thin", "k>", "Four"], false), "plan||Four");
        assert_eq!(heard(&["plan</thin", "k>", "Four"], true), "||Four");
        assert_eq!(heard(&["plan", " more"], true), "|");
        assert_eq!(
            fed(["plan", "</think>", "Four."], "", false),
            ("Four.".into(), true)
        );
        assert_eq!(
            fed(["plan", "</think>", "Four."], "", true),
            ("Four.".into(), false)
        );
        assert_eq!(fed(["no ", "plan"], "", true), ("no plan".into(), false));
    }

    #[test]
    fn a_text_that_is_too_long_is_cut_between_characters() {
        for pieces in [vec!["ü".repeat(LONGEST + 1)], vec!["ü".repeat(150_000); 2]] {
            let mut shown = Shown::new("", false);
            for piece in &pieces {
                shown.push(piece);
                shown.news();
            }
            assert_eq!(shown.end().0.chars().count(), LONGEST);
            assert!(shown.overflows);
        }
    }
}
