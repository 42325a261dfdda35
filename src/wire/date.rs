//! The text of an HTTP `Date` header (RFC 9110 §5.6.7, IMF-fixdate) from seconds since 1970, given by the caller, and back.
//!
//! Pure: whoever owns the clock calls this once per second and shares the 29 bytes.

const WEEKDAYS: &[u8; 21] = b"ThuFriSatSunMonTueWed"; // 1970-01-01 was a Thursday
const MONTHS: &[u8; 36] = b"JanFebMarAprMayJunJulAugSepOctNovDec";
/// 9999-12-31T23:59:59Z: the last second whose year has four digits.
const LAST_SECOND: u64 = 253_402_300_799;
const SECONDS_PER_DAY: u64 = 86_400;

/// `Sun, 06 Nov 1994 08:49:37 GMT` for 784111777. Times after the year 9999 give its last second.
pub fn http_date(unix_seconds: u64) -> [u8; 29] {
    let seconds = unix_seconds.min(LAST_SECOND);
    let (days, second) = (seconds / SECONDS_PER_DAY, seconds % SECONDS_PER_DAY);
    let (year, month, day) = civil(days);
    let mut text = *b"Thu, 01 Jan 1970 00:00:00 GMT";
    name(&mut text[0..3], WEEKDAYS, days % 7);
    digits(&mut text[5..7], day);
    name(&mut text[8..11], MONTHS, month - 1);
    digits(&mut text[12..16], year);
    digits(&mut text[17..19], second / 3600);
    digits(&mut text[20..22], second / 60 % 60);
    digits(&mut text[23..25], second % 60);
    text
}

/// Days since 1970-01-01 → (year, month 1..=12, day 1..=31), proleptic Gregorian. Counts in 400-year cycles of years that
/// begin in March, so that the leap day is the last day of a year.
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468; // days since 0000-03-01
    let (cycle, in_cycle) = (shifted / 146_097, shifted % 146_097);
    let year_of_cycle = (in_cycle - in_cycle / 1_460 + in_cycle / 36_524 - in_cycle / 146_096) / 365;
    let day_of_year = in_cycle - (365 * year_of_cycle + year_of_cycle / 4 - year_of_cycle / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 {
        from_march + 3
    } else {
        from_march - 9
    };
    let year = cycle * 400 + year_of_cycle + u64::from(month <= 2);
    (year, month, day)
}

/// Seconds since 1970 of what [`http_date`] writes; `None` for anything else.
pub fn unix_seconds(text: &[u8]) -> Option<u64> {
    let number = |range| str::from_utf8(text.get(range)?).ok()?.parse::<u64>().ok();
    let month = (1..=12)
        .zip(MONTHS.chunks(3))
        .find(|(_, name)| text.get(8..11) == Some(name))?
        .0;
    let days = days_since_1970(number(12..16)?, month, number(5..7)?.max(1))?;
    let seconds = (days * 24 + number(17..19)?) * 3600 + number(20..22)? * 60 + number(23..25)?;
    (http_date(seconds) == text).then_some(seconds)
}

/// Days since 1970-01-01 of a day whose month is 1..=12 and day 1..=31: [`civil`] the other way. `None` before 1970.
pub fn days_since_1970(year: u64, month: u64, day: u64) -> Option<u64> {
    let (year, from_march) = if month > 2 {
        (year, month - 3)
    } else {
        (year.checked_sub(1)?, month + 9)
    };
    let leap_days = year / 4 - year / 100 + year / 400;
    (365 * year + leap_days + (153 * from_march + 2) / 5 + day - 1).checked_sub(719_468)
}

fn name(slot: &mut [u8], names: &[u8], index: u64) {
    let at = index as usize * 3;
    slot.copy_from_slice(&names[at..at + 3]);
}

fn digits(slot: &mut [u8], mut value: u64) {
    for digit in slot.iter_mut().rev() {
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
    }
}

#[cfg(test)]
mod tests {
    use super::{civil, days_since_1970, http_date, unix_seconds};

    fn text(seconds: u64) -> String {
        String::from_utf8(http_date(seconds).to_vec()).unwrap()
    }

    #[test]
    fn known_values() {
        assert_eq!(text(0), "Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(text(784_111_777), "Sun, 06 Nov 1994 08:49:37 GMT"); // the example of RFC 9110
        assert_eq!(text(951_782_400), "Tue, 29 Feb 2000 00:00:00 GMT");
        assert_eq!(text(951_868_800), "Wed, 01 Mar 2000 00:00:00 GMT");
        assert_eq!(text(1_000_000_000), "Sun, 09 Sep 2001 01:46:40 GMT");
        assert_eq!(text(2_147_483_647), "Tue, 19 Jan 2038 03:14:07 GMT");
        assert_eq!(text(4_107_542_399), "Sun, 28 Feb 2100 23:59:59 GMT");
        assert_eq!(text(4_107_542_400), "Mon, 01 Mar 2100 00:00:00 GMT"); // 2100 has no leap day
        assert_eq!(text(253_402_300_799), "Fri, 31 Dec 9999 23:59:59 GMT");
        assert_eq!(text(u64::MAX), "Fri, 31 Dec 9999 23:59:59 GMT");
    }

    /// The obvious twin: count the days one by one, from 1970 to the year 2500.
    #[test]
    fn every_day_follows_the_day_before() {
        let (mut year, mut month, mut day) = (1970, 1, 1);
        for days in 0..193_600 {
            assert_eq!(civil(days), (year, month, day));
            let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
            let length = match month {
                2 => 28 + u64::from(leap),
                4 | 6 | 9 | 11 => 30,
                _ => 31,
            };
            day += 1;
            if day > length {
                (month, day) = (month + 1, 1);
            }
            if month > 12 {
                (year, month) = (year + 1, 1);
            }
        }
    }

    /// The obvious twin: the other direction.
    #[test]
    fn every_day_is_the_one_that_is_written() {
        for days in 0..60_000 {
            let (year, month, day) = civil(days);
            assert_eq!(days_since_1970(year, month, day), Some(days));
            let seconds = days * 86_400 + days % 86_400;
            assert_eq!(unix_seconds(&http_date(seconds)), Some(seconds));
        }
    }

    #[test]
    fn dates() {
        assert_eq!(unix_seconds(b"Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777));
        assert_eq!(unix_seconds(b"Thu, 01 Jan 1970 00:00:00 GMT"), Some(0));
        assert_eq!(unix_seconds(b"Thu, 29 Feb 2024 23:59:59 GMT"), Some(1_709_251_199));
        for bad in [
            &b"Sunday, 06-Nov-94 08:49:37 GMT"[..],
            b"",
            b"Sun, 06 Nov 1994 08:49 GMT",
            b"\xff",
            b"Mon, 06 Nov 1994 08:49:37 GMT",
            b"Sun, 31 Feb 2024 08:49:37 GMT",
            b"Sun, 00 Nov 1994 08:49:37 GMT",
            b"Sun, 06 Nov 0000 08:49:37 GMT",
            b"Sun, 06 Nov 1994 99:99:99 GMT",
        ] {
            assert_eq!(unix_seconds(bad), None);
        }
    }
}
