//! The day as people on this machine have it. The standard library knows no time zones: the offset is
//! read from `TZ` or `/etc/localtime`, in the notation of POSIX in which both say their rules.

use std::time::{Duration, SystemTime};

use crate::times;

const DAY: i64 = 86_400;

/// What the model is told of today: the local date, or where the time zone cannot be known, UTC's.
pub(super) fn today(now: SystemTime) -> String {
    let since = now.duration_since(SystemTime::UNIX_EPOCH);
    let seconds = since.unwrap_or_default().as_secs() as i64;
    let offset = rules(std::env::var("TZ").ok(), &|path| std::fs::read(path).ok())
        .and_then(|rules| offset(&rules, seconds));
    described(seconds, offset)
}

/// As `Monday, 2026-11-23 (UTC+01:00)`.
fn described(seconds: i64, offset: Option<i64>) -> String {
    const DAYS: [&str; 7] = [
        "Thursday",
        "Friday",
        "Saturday",
        "Sunday",
        "Monday",
        "Tuesday",
        "Wednesday",
    ];
    let local = (seconds + offset.unwrap_or(0)).max(0);
    let weekday = DAYS[(local / DAY % 7) as usize];
    let date = times::date(SystemTime::UNIX_EPOCH + Duration::from_secs(local as u64));
    let zone = match offset.unwrap_or(0) / 60 {
        0 => "UTC".to_owned(),
        minutes => {
            let (sign, minutes) = (if minutes < 0 { '-' } else { '+' }, minutes.abs());
            format!("UTC{sign}{:02}:{:02}", minutes / 60, minutes % 60)
        }
    };
    format!("{weekday}, {date} ({zone})")
}

/// The machine's rules in the notation of POSIX. `variable`: what `TZ` says.
fn rules(variable: Option<String>, read: &dyn Fn(&str) -> Option<Vec<u8>>) -> Option<String> {
    let Some(variable) = variable else {
        return footer(&read("/etc/localtime")?);
    };
    let zone = variable.trim_start_matches(':');
    let file = if zone.starts_with('/') {
        read(zone)
    } else {
        read(&format!("/usr/share/zoneinfo/{zone}"))
    };
    match file.as_deref().and_then(footer) {
        Some(rules) => Some(rules),
        None if zone.is_empty() => Some("UTC0".to_owned()),
        None => Some(variable),
    }
}

/// The last line of a time zone file of version 2 or later: the rules from its last change on.
fn footer(file: &[u8]) -> Option<String> {
    let is_newer = file.starts_with(b"TZif") && file.get(4).is_some_and(|version| *version >= b'2');
    let text = file.strip_suffix(b"\n").filter(|_| is_newer)?;
    let line = text.rsplit(|&byte| byte == b'\n').next()?;
    let line = std::str::from_utf8(line).ok()?;
    (!line.is_empty()).then(|| line.to_owned())
}

/// The seconds by which the local time is ahead of UTC's at `seconds` since 1970, by rules such as
/// `CET-1CEST,M3.5.0,M10.5.0/3` or `<+14>-14`.
fn offset(rules: &str, seconds: i64) -> Option<i64> {
    let mut rules = Rules(rules);
    rules.name()?;
    let standard = -rules.time()?;
    if rules.0.is_empty() {
        return Some(standard);
    }
    rules.name()?;
    let summer = if rules.0.starts_with(',') || rules.0.is_empty() {
        standard + 3600
    } else {
        -rules.time()?
    };
    if rules.0.is_empty() {
        // The United States', as everybody's default is.
        rules = Rules(",M3.2.0,M11.1.0");
    }
    let year = year(seconds + standard);
    let begins = rules.change(year)? - standard;
    let ends = rules.change(year)? - summer;
    let is_summer = if begins < ends {
        (begins..ends).contains(&seconds)
    } else {
        !(ends..begins).contains(&seconds)
    };
    rules
        .0
        .is_empty()
        .then_some(if is_summer { summer } else { standard })
}

/// What is left of the rules.
struct Rules<'a>(&'a str);

impl<'a> Rules<'a> {
    /// Takes as much as `is_part` holds for, if there is any.
    fn take(&mut self, is_part: impl Fn(char) -> bool) -> Option<&'a str> {
        let end = self.0.find(|c| !is_part(c)).unwrap_or(self.0.len());
        let (part, rest) = self.0.split_at(end);
        self.0 = rest;
        (!part.is_empty()).then_some(part)
    }

    fn skip(&mut self, sign: char) -> Option<()> {
        self.0 = self.0.strip_prefix(sign)?;
        Some(())
    }

    fn name(&mut self) -> Option<()> {
        if self.skip('<').is_some() {
            self.take(|c| c != '>')?;
            return self.skip('>');
        }
        let name = self.take(|c| c.is_ascii_alphabetic())?;
        (name.len() >= 3).then_some(())
    }

    fn number(&mut self) -> Option<i64> {
        let number = self.take(|c| c.is_ascii_digit())?.parse().ok()?;
        (number < 1000).then_some(number)
    }

    /// Hours, minutes and seconds, in seconds.
    fn time(&mut self) -> Option<i64> {
        let sign = if self.skip('-').is_some() {
            -1
        } else {
            let _ = self.skip('+');
            1
        };
        let mut time = self.number()? * 3600;
        for unit in [60, 1] {
            if self.skip(':').is_some() {
                time += self.number()? * unit;
            }
        }
        Some(sign * time)
    }

    /// A day of `year` and a time of that day, in seconds since 1970 by the local clock.
    fn change(&mut self, year: i64) -> Option<i64> {
        self.skip(',')?;
        let january = days_before(year);
        let day = if self.skip('M').is_some() {
            let month = self.number().filter(|month| (1..=12).contains(month))?;
            self.skip('.')?;
            let week = self.number().filter(|week| (1..=5).contains(week))?;
            self.skip('.')?;
            let weekday = self.number().filter(|day| *day < 7)?;
            let (first, length) = month_of(year, month);
            // 1970 began on a Thursday.
            let first_weekday = (january + first + 4).rem_euclid(7);
            let day = (weekday - first_weekday).rem_euclid(7) + (week - 1) * 7;
            first + if day >= length { day - 7 } else { day }
        } else if self.skip('J').is_some() {
            // The 29th of February is not counted.
            let day = self.number()?;
            day - 1 + i64::from(day >= 60 && is_leap(year))
        } else {
            self.number()?
        };
        let time = match self.skip('/') {
            Some(()) => self.time()?,
            None => 2 * 3600,
        };
        Some((january + day) * DAY + time)
    }
}

/// The year of a moment, in seconds since 1970.
fn year(seconds: i64) -> i64 {
    let days = seconds.div_euclid(DAY);
    let guess = 1970 + days / 366;
    let passed = (guess..).take_while(|year| days_before(year + 1) <= days);
    guess + passed.count() as i64
}

/// From 1970 to the beginning of `year`.
fn days_before(year: i64) -> i64 {
    let leaps = |year: i64| year / 4 - year / 100 + year / 400;
    (year - 1970) * 365 + leaps(year - 1) - leaps(1969)
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

/// The day of the year on which the month begins, from 0, and its length.
fn month_of(year: i64, month: i64) -> (i64, i64) {
    const LENGTHS: [i64; 12] = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let length = |month: i64| {
        let leap = i64::from(month == 2 && is_leap(year));
        LENGTHS[month as usize - 1] + leap
    };
    ((1..month).map(length).sum(), length(month))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-22T19:18:38Z.
    const NOVEMBER: i64 = 1_795_375_118;
    /// 2026-07-01T12:00:00Z.
    const JULY: i64 = 1_782_907_200;

    #[test]
    fn rules_give_the_offset() {
        let hours = |hours: f64| Some((hours * 3600.0) as i64);
        for (rules, at, expected) in [
            ("UTC0", NOVEMBER, hours(0.0)),
            ("<+14>-14", NOVEMBER, hours(14.0)),
            ("<+0545>-5:45", NOVEMBER, hours(5.75)),
            ("CET-1CEST,M3.5.0,M10.5.0/3", NOVEMBER, hours(1.0)),
            ("CET-1CEST,M3.5.0,M10.5.0/3", JULY, hours(2.0)),
            // 2026-03-29 and 2026-10-25, 01:00 UTC.
            ("CET-1CEST,M3.5.0,M10.5.0/3", 1_774_745_999, hours(1.0)),
            ("CET-1CEST,M3.5.0,M10.5.0/3", 1_774_746_000, hours(2.0)),
            ("CET-1CEST,M3.5.0,M10.5.0/3", 1_792_889_999, hours(2.0)),
            ("CET-1CEST,M3.5.0,M10.5.0/3", 1_792_890_000, hours(1.0)),
            ("EST5EDT,M3.2.0,M11.1.0", NOVEMBER, hours(-5.0)),
            ("EST5EDT", JULY, hours(-4.0)),
            // In the south the summer is around the year's end.
            ("AEST-10AEDT,M10.1.0,M4.1.0/3", NOVEMBER, hours(11.0)),
            ("AEST-10AEDT,M10.1.0,M4.1.0/3", JULY, hours(10.0)),
            ("<-0330>3:30<-0230>2:30,J60/2,J300/2", JULY, hours(-2.5)),
            ("IST-1GMT0,M10.5.0,M3.5.0/1", NOVEMBER, hours(0.0)),
            ("<-02>2<-01>,M3.5.0/-1,M10.5.0/0", JULY, hours(-1.0)),
            ("", NOVEMBER, None),
            ("Europe/Berlin", NOVEMBER, None),
            ("CET-1CEST,nonsense", NOVEMBER, None),
            ("CET-1CEST,M13.5.0,M10.5.0", NOVEMBER, None),
        ] {
            assert_eq!(offset(rules, at), expected, "{rules} at {at}");
        }
    }

    #[test]
    fn the_zone_is_what_tz_or_the_machine_says() {
        let read = |path: &str| {
            let file = |rules: &str| Some(format!("TZif2\0\n{rules}\n").into_bytes());
            match path {
                "/etc/localtime" => file("<+14>-14"),
                "/usr/share/zoneinfo/Europe/Berlin" => file("CET-1CEST,M3.5.0,M10.5.0/3"),
                "/home/old" => Some(b"TZif\0\0old\n".to_vec()),
                _ => None,
            }
        };
        for (variable, expected) in [
            (None, Some("<+14>-14")),
            (Some("Europe/Berlin"), Some("CET-1CEST,M3.5.0,M10.5.0/3")),
            (Some(":Europe/Berlin"), Some("CET-1CEST,M3.5.0,M10.5.0/3")),
            (Some(""), Some("UTC0")),
            (Some("EST5"), Some("EST5")),
            (Some("/home/old"), Some("/home/old")),
        ] {
            let found = rules(variable.map(str::to_owned), &read);
            assert_eq!(found.as_deref(), expected, "{variable:?}");
        }
        assert_eq!(rules(None, &|_| None), None);
    }

    #[test]
    fn the_date_is_the_local_one_or_utcs_by_name() {
        for (offset, expected) in [
            (Some(14 * 3600), "Monday, 2026-11-23 (UTC+14:00)"),
            (Some(-19_800), "Sunday, 2026-11-22 (UTC-05:30)"),
            (Some(0), "Sunday, 2026-11-22 (UTC)"),
            (None, "Sunday, 2026-11-22 (UTC)"),
        ] {
            assert_eq!(described(NOVEMBER, offset), expected);
        }
    }
}
