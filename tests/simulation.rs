//! The bot in simulated time.

mod support;

use support::bot::Stage;

const ECHO: &str = "default_provider = \"echo\"";

#[test]
fn late_posts_are_answered_once() {
    let stage = Stage::simulated();
    stage.configure(ECHO, "");
    let mut session = stage.start();
    stage.run_for(&mut session, 3);
    let mut questions = Vec::new();
    for n in 0..50 {
        let late = (n * 37) % 10_000;
        let text = format!("question {n}");
        questions.push(
            stage
                .world()
                .draft(&stage.ann.id, &stage.channel, &text)
                .visible_after_ms(late)
                .post(),
        );
        stage.run_for(&mut session, 1);
    }
    stage.run_for(&mut session, 30);
    for question in questions {
        assert_eq!(stage.answers(&question).len(), 1);
    }
}
