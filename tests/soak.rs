//! Simulated months with kills, faults, and workers that are slow or die: every message answered once, and at the end no more
//! state and no more requests than at the beginning. `PRX_SOAK=100000` makes it that many messages.

use crate::support::soak::soak;

#[test]
fn a_month_of_messages_is_answered_and_leaves_nothing_behind() {
    let messages = std::env::var("PRX_SOAK").ok();
    let messages = messages.map_or(1_500, |text| text.parse().expect("a number of messages"));
    let soak = soak(1, messages, (messages / 100).max(30), 4);
    println!("{soak:#?}");
    assert_eq!((soak.unanswered, soak.answered_twice), (0, 0));
    assert!(
        soak.spoilt == 0 && soak.apologies < messages / 100,
        "{soak:?}"
    );
    assert!(soak.kills > 0 && soak.faults > 0, "{soak:?}");
    assert!(soak.deaths > soak.workers / 20, "{soak:?}");
    assert!(soak.days >= 28, "{} days", soak.days);
    // Four channels' worth of a minute's posts.
    let largest = soak.tenths.iter().map(|costs| costs.state_bytes).max();
    assert!(largest < Some(4 * 1000), "{soak:?}");
    let (first, last) = (soak.tenths[0], soak.tenths[soak.tenths.len() - 1]);
    let each = |costs: crate::support::soak::Costs| costs.requests as f64 / costs.messages as f64;
    assert!(each(last) < each(first) * 1.3, "{first:?} {last:?}");
    assert!(
        last.state_bytes < first.state_bytes * 3 / 2,
        "{first:?} {last:?}"
    );
    assert!(last.state_ids < first.state_ids * 2, "{first:?} {last:?}");
}
