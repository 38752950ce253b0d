//! Many people at once, in simulated time: whatever the order in which their posts become visible,
//! each is answered once.

use std::sync::{Arc, Mutex};

use crate::support::bot::{ECHO, Stage};
use crate::support::mattermost::{Joining, Kind};

const POSTERS: u64 = 8;
const POSTS_EACH: u64 = 4;
/// The longest that a post stayed invisible on a real server, in milliseconds.
const LATEST_MS: u64 = 10_000;

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

#[test]
fn eight_posters_at_once_in_several_channels_are_each_answered_once() {
    for seed in 1..=20 {
        run_posters(seed, seed % 4 == 0);
    }
}

fn run_posters(seed: u64, one: bool) {
    let stage = Stage::simulated();
    let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut below = |bound: u64| {
        random ^= random >> 12;
        random ^= random << 25;
        random ^= random >> 27;
        (random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16) % bound
    };
    let questions = Arc::new(Mutex::new(Vec::new()));
    let mut scope = String::from("allowed_users = [\"*\"]\n");
    if one {
        scope += &format!("channel_id = \"{}\"", stage.channel);
    }
    stage.configure(ECHO, &scope);
    {
        let mut world = stage.world();
        world.seed(seed);
        world.knobs.request_takes_ms = seed % 3 * 7;
        let mut channels = vec![stage.channel.clone()];
        for name in ["one", "two", "three"].into_iter().filter(|_| !one) {
            let channel = world.add_channel(&stage.team, name, Kind::Private);
            world.add_member(&channel, &stage.bot.id, Joining::Joined);
            channels.push(channel);
        }
        for poster in 0..POSTERS {
            let person = world.add_user(&format!("poster{poster}"));
            for channel in &channels {
                world.add_member(channel, &person.id, Joining::Silently);
            }
            for number in 0..POSTS_EACH {
                let channel = channels[below(channels.len() as u64) as usize].clone();
                // Most are at once or nearly so, as on real servers.
                let late = [0, 0, 0, below(200), below(200), below(LATEST_MS)][below(6) as usize];
                let (id, questions) = (person.id.clone(), questions.clone());
                world.at(3_000 + below(12_000), move |world| {
                    let text = format!("{poster}, {number}");
                    let draft = world.draft(&id, &channel, &text).visible_after_ms(late);
                    questions.lock().unwrap().push(draft.post());
                });
            }
        }
    }
    let mut session = stage.start();
    stage.run_for(&mut session, 35);
    let questions = questions.lock().unwrap();
    assert_eq!(questions.len() as u64, POSTERS * POSTS_EACH);
    for question in questions.iter() {
        let answers = stage.answers(question);
        assert_eq!(answers.len(), 1, "seed {seed}, one: {one}: {answers:?}");
    }
}
