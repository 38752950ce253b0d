//! The bot from outside: the built binary in real time.

mod support;

use support::bot::Stage;

const ECHO: &str = "default_provider = \"echo\"";

#[test]
fn a_message_is_answered_in_its_thread() {
    let stage = Stage::real();
    stage.configure(ECHO, "poll_interval_secs = 0.05");
    let bot = stage.spawn();
    stage.wait("the first poll", |world| {
        world
            .log
            .iter()
            .any(|call| call.target.contains("/channels"))
    });
    let question = stage
        .world()
        .post(&stage.ann.id, &stage.channel, "hello there");
    let answer = stage.wait_for_answer(&question);
    assert!(answer.contains("hello there"), "{answer}");
    assert_eq!(stage.world().replies_to(&question).len(), 1);
    assert_eq!(bot.threads(), 1);
}
