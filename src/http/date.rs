//! Dates of HTTP (RFC 9110 5.6.7) as seconds since 1970, both ways.
//!
//! It is written here and not taken from a library, because those speak of `SystemTime`, and this
//! layer knows no clock. The calendar is the proleptic Gregorian one; leap seconds do not exist in
//! it.

/// The last second that four digits of a year can name, 9999-12-31 23:59:59.
const LAST_SECOND: u64 = 253_402_300_799;

const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];
const DAYS: [&str; 7] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];
const LONG_DAYS: [&str; 7] = [
    "Sunday",
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
];

const DAY_S: i64 = 86_400;
/// Years after which the calendar repeats, and their days.
const CYCLE_YEARS: i64 = 400;
const CYCLE_DAYS: i64 = 146_097;
/// Days from 0000-03-01 to 1970-01-01.
const EPOCH_DAYS: i64 = 719_468;

/// The second that [`format()`] writes for a second since 1970: the same one, but never after the
/// year 9999.
pub fn nameable(seconds: u64) -> i64 {
    i64::try_from(seconds.min(LAST_SECOND)).expect("bounded on the spot")
}

/// Seconds since 1970 in the preferred format, e.g. `Sun, 06 Nov 1994 08:49:37 GMT`. What lies
/// after the year 9999 becomes its last second.
pub fn format(seconds: u64) -> String {
    let seconds = nameable(seconds);
    let (days, second) = (seconds.div_euclid(DAY_S), seconds.rem_euclid(DAY_S));
    let (year, month, day) = date_of(days);
    // 1970-01-01 was a Thursday.
    let weekday = name(&DAYS, (days + 4).rem_euclid(7));
    let month = name(&MONTHS, month - 1);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{weekday}, {day:02} {month} {year:04} {hour:02}:{minute:02}:{second:02} GMT")
}

/// Seconds since 1970 as RFC 3339 has them, without the offset, e.g. `1994-11-06T08:49:37`.
pub fn format_plainly(seconds: u64) -> String {
    let seconds = nameable(seconds);
    let (days, second) = (seconds.div_euclid(DAY_S), seconds.rem_euclid(DAY_S));
    let (year, month, day) = date_of(days);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")
}

/// Seconds since 1970 (negative before) of a date in any of the three formats; `None` if it is no
/// date.
///
/// The day of the week must be one, and need not be the right one. Of the two digits that RFC 850
/// has for a year, 70 and above are taken for the last century: the rule of RFC 9110 needs a clock,
/// and differs from this one only in years that no file has yet.
pub fn parse(text: &[u8]) -> Option<i64> {
    let text = Text(text);
    (text.whole(Text::imf_fixdate))
        .or_else(|| text.whole(Text::rfc850_date))
        .or_else(|| text.whole(Text::asctime_date))
}

/// What is left to read.
#[derive(Clone, Copy)]
struct Text<'t>(&'t [u8]);

impl Text<'_> {
    /// What is read, if that is all there is.
    fn whole<T>(mut self, read: impl FnOnce(&mut Self) -> Option<T>) -> Option<T> {
        read(&mut self).filter(|_| self.0.is_empty())
    }

    /// `Sun, 06 Nov 1994 08:49:37 GMT`.
    fn imf_fixdate(&mut self) -> Option<i64> {
        self.one_of(&DAYS)?;
        self.word(", ")?;
        let day = self.digits(2)?;
        self.word(" ")?;
        let month = self.one_of(&MONTHS)? + 1;
        self.word(" ")?;
        let year = self.digits(4)?;
        self.word(" ")?;
        let time = self.time()?;
        self.word(" GMT")?;
        seconds_of(year, month, day, time)
    }

    /// `Sunday, 06-Nov-94 08:49:37 GMT`.
    fn rfc850_date(&mut self) -> Option<i64> {
        self.one_of(&LONG_DAYS)?;
        self.word(", ")?;
        let day = self.digits(2)?;
        self.word("-")?;
        let month = self.one_of(&MONTHS)? + 1;
        self.word("-")?;
        let year = self.digits(2)?;
        let century = if year < 70 { 2_000 } else { 1_900 };
        self.word(" ")?;
        let time = self.time()?;
        self.word(" GMT")?;
        seconds_of(century + year, month, day, time)
    }

    /// `Sun Nov  6 08:49:37 1994`.
    fn asctime_date(&mut self) -> Option<i64> {
        self.one_of(&DAYS)?;
        self.word(" ")?;
        let month = self.one_of(&MONTHS)? + 1;
        self.word(" ")?;
        let day = match self.word(" ") {
            Some(()) => self.digits(1)?,
            None => self.digits(2)?,
        };
        self.word(" ")?;
        let time = self.time()?;
        self.word(" ")?;
        let year = self.digits(4)?;
        seconds_of(year, month, day, time)
    }

    /// `08:49:37`, in seconds. A leap second is the first one of the next minute.
    fn time(&mut self) -> Option<i64> {
        let hour = self.digits(2)?;
        self.word(":")?;
        let minute = self.digits(2)?;
        self.word(":")?;
        let second = self.digits(2)?;
        (hour < 24 && minute < 60 && second <= 60).then_some(hour * 3_600 + minute * 60 + second)
    }

    fn digits(&mut self, len: usize) -> Option<i64> {
        let (digits, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        digits.iter().try_fold(0, |number, byte| {
            let digit = byte.is_ascii_digit().then(|| i64::from(byte - b'0'))?;
            Some(number * 10 + digit)
        })
    }

    fn word(&mut self, word: &str) -> Option<()> {
        self.0 = self.0.strip_prefix(word.as_bytes())?;
        Some(())
    }

    /// The index of the name that stands here.
    fn one_of(&mut self, names: &[&str]) -> Option<i64> {
        let at = names
            .iter()
            .position(|name| self.0.starts_with(name.as_bytes()))?;
        self.word(names[at])?;
        i64::try_from(at).ok()
    }
}

fn name(names: &[&'static str], at: i64) -> &'static str {
    names[usize::try_from(at).expect("the index of a name")]
}

/// `None` if there is no such day.
fn seconds_of(year: i64, month: i64, day: i64, second: i64) -> Option<i64> {
    let days = days_of(year, month, day);
    (date_of(days) == (year, month, day)).then_some(days * DAY_S + second)
}

/// Days since 1970-01-01. Years are counted from March, so that a leap day is the last one of its
/// year, and the lengths of the months, 31 30 31 30 31, 31 30 31 30 31, 31 .., follow a line with
/// the slope 153/5.
fn days_of(year: i64, month: i64, day: i64) -> i64 {
    let from_march = (month + 9) % 12;
    let year = if month <= 2 { year - 1 } else { year };
    let (cycle, in_cycle) = (year.div_euclid(CYCLE_YEARS), year.rem_euclid(CYCLE_YEARS));
    let in_year = (153 * from_march + 2) / 5 + day - 1;
    let days = in_cycle * 365 + in_cycle / 4 - in_cycle / 100 + in_year;
    cycle * CYCLE_DAYS + days - EPOCH_DAYS
}

/// Year, month and day (both from 1) of a day since 1970-01-01.
fn date_of(days: i64) -> (i64, i64, i64) {
    let days = days + EPOCH_DAYS;
    let (cycle, in_cycle) = (days.div_euclid(CYCLE_DAYS), days.rem_euclid(CYCLE_DAYS));
    // Without the leap days so far, every year has 365 days: one in 4 years, none in 100, one in
    // 400.
    let leap_days = in_cycle / 1_460 - in_cycle / 36_524 + in_cycle / 146_096;
    let in_cycle_year = (in_cycle - leap_days) / 365;
    let before = in_cycle_year * 365 + in_cycle_year / 4 - in_cycle_year / 100;
    let in_year = in_cycle - before;
    let from_march = (5 * in_year + 2) / 153;
    let day = in_year - (153 * from_march + 2) / 5 + 1;
    let month = (from_march + 2) % 12 + 1;
    let year = cycle * CYCLE_YEARS + in_cycle_year + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 9110 5.6.7.
    const EXAMPLE_S: i64 = 784_111_777;

    #[test]
    fn the_three_formats_name_the_same_second() {
        for text in [
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
        ] {
            assert_eq!(parse(text.as_bytes()), Some(EXAMPLE_S), "{text}");
        }
        assert_eq!(format(784_111_777), "Sun, 06 Nov 1994 08:49:37 GMT");
    }

    #[test]
    fn known_moments_are_written_and_read() {
        for (seconds, text) in [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (68_169_599, "Mon, 28 Feb 1972 23:59:59 GMT"),
            (68_169_600, "Tue, 29 Feb 1972 00:00:00 GMT"),
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"),
            (951_868_800, "Wed, 01 Mar 2000 00:00:00 GMT"),
            (2_147_483_647, "Tue, 19 Jan 2038 03:14:07 GMT"),
            (4_107_542_400, "Mon, 01 Mar 2100 00:00:00 GMT"),
            (LAST_SECOND, "Fri, 31 Dec 9999 23:59:59 GMT"),
        ] {
            assert_eq!(format(seconds), text);
            assert_eq!(
                parse(text.as_bytes()),
                i64::try_from(seconds).ok(),
                "{text}"
            );
        }
        assert_eq!(
            format(u64::MAX),
            format(LAST_SECOND),
            "a year has four digits"
        );
    }

    #[test]
    fn the_plain_form_is_that_of_rfc_3339() {
        assert_eq!(format_plainly(784_111_777), "1994-11-06T08:49:37");
        assert_eq!(format_plainly(u64::MAX), "9999-12-31T23:59:59");
    }

    /// Goal: the calendar has no wrong day. Method: walk every day of 1600 to 2400, more than two
    /// cycles' worth of exceptions, beside a calendar that counts up.
    #[test]
    fn every_day_of_eight_centuries_follows_the_one_before() {
        let is_leap = |year: i64| (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
        let len = |year, month| match month {
            2 if is_leap(year) => 29,
            2 => 28,
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        };
        let (mut year, mut month, mut day) = (1600, 1, 1);
        let first = days_of(year, month, day);
        assert_eq!(first, -135_140);
        let mut days = first;
        while year < 2400 {
            assert_eq!(date_of(days), (year, month, day));
            assert_eq!(days_of(year, month, day), days);
            days += 1;
            day += 1;
            if day > len(year, month) {
                (month, day) = (month + 1, 1);
            }
            if month > 12 {
                (year, month) = (year + 1, 1);
            }
        }
        assert_eq!(days - first, 2 * CYCLE_DAYS);
    }

    #[test]
    fn what_is_no_date_is_none() {
        for text in [
            "",
            "0",
            "Sun, 06 Nov 1994 08:49:37",
            "Sun, 06 Nov 1994 08:49:37 UTC",
            "Sun, 06 Nov 1994 08:49:37 GMT ",
            "Sun, 6 Nov 1994 08:49:37 GMT",
            "sun, 06 nov 1994 08:49:37 gmt",
            "Son, 06 Nov 1994 08:49:37 GMT",
            "Sun, 00 Nov 1994 08:49:37 GMT",
            "Sun, 31 Nov 1994 08:49:37 GMT",
            "Sun, 29 Feb 1900 08:49:37 GMT",
            "Sun, 06 Nov 1994 24:00:00 GMT",
            "Sun, 06 Nov 1994 08:60:37 GMT",
            "Sun, 06 Nov 1994 08:49:61 GMT",
            "Sun, 06 Nov 1994 8:49:37 GMT",
            "Sun, 06 Nov +994 08:49:37 GMT",
            "Sunday, 06 Nov 1994 08:49:37 GMT",
            "Sunday, 06-Nov-1994 08:49:37 GMT",
            "Sun Nov 6 08:49:37 1994",
            "Sun Nov  6 08:49:37 1994 GMT",
            "Sun Nov 06 08:49:37",
        ] {
            assert_eq!(parse(text.as_bytes()), None, "{text:?}");
        }
    }

    #[test]
    fn odd_dates_have_one_meaning() {
        let leap = parse(b"Sat, 31 Dec 2016 23:59:60 GMT");
        assert_eq!(leap, parse(b"Sun, 01 Jan 2017 00:00:00 GMT"));
        assert_eq!(parse(b"Wed, 31 Dec 1969 23:59:59 GMT"), Some(-1));
        assert_eq!(parse(b"Mon Nov 16 08:49:37 1994"), Some(784_975_777));
        assert_eq!(
            parse(b"Thursday, 01-Jan-70 00:00:00 GMT"),
            Some(0),
            "70 is the last century"
        );
        assert_eq!(
            parse(b"Tuesday, 01-Jan-69 00:00:00 GMT"),
            parse(b"Tue, 01 Jan 2069 00:00:00 GMT")
        );
    }
}
