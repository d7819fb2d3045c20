//! What is JSON and what is not, numbers against the standard library, days against a count of them.

use super::*;

#[test]
fn takes_what_the_standard_takes_and_nothing_else() {
    for good in [
        "{}",
        " { } ",
        r#"{"a":1}"#,
        r#"{"a":[1,-0,0.5,1e9,1E-2,[],{}],"b":{"c":null},"d":"\u00e9\n\"\\\/","e":true , "f" : false}"#,
        "{\"\u{e9}\":\"\u{1f600}\"}",
    ] {
        assert_eq!(check_object(good.as_bytes()), Ok(()), "{good}");
    }
    for bad in [
        "",
        "1",
        "[]",
        "null",
        "{",
        "}",
        "{a:1}",
        r#"{"a"}"#,
        r#"{"a":}"#,
        r#"{"a":1,}"#,
        r#"{"a":1}x"#,
        r#"{"a":01}"#,
        r#"{"a":1.}"#,
        r#"{"a":.5}"#,
        r#"{"a":+1}"#,
        r#"{"a":1e}"#,
        r#"{"a":NaN}"#,
        r#"{"a":-}"#,
        r#"{"a":"\x"}"#,
        r#"{"a":"\u12g4"}"#,
        r#"{"a":"\u12"}"#,
        r#"{"a":"b}"#,
        "{\"a\":\"\n\"}",
        r#"{"a":[1,]}"#,
        r#"{"a":[1 2]}"#,
        r#"{"a":tru}"#,
        r#"{"a" 1}"#,
        r#"{"a":1 "b":2}"#,
        "{}{}",
    ] {
        assert!(matches!(check_object(bad.as_bytes()), Err(Error::Invalid(_))), "{bad}");
    }
    assert!(check_object(b"{\"a\":\"\xff\"}").is_err());
    let deep = |levels: usize| alloc::format!("{{\"a\":{}{}}}", "[".repeat(levels), "]".repeat(levels));
    assert!(check_object(deep(31).as_bytes()).is_ok());
    assert!(check_object(deep(100_000).as_bytes()).is_err());
}

#[test]
fn finds_members_by_path() {
    let text =
        br#" {"a": 1, "b": {"c": "x\u0041", "d": [1, {"e": 2}]}, "b.c": true, "a": 2, "\u0066": null}"#;
    let find = |path: &str| member(text, path.as_bytes()).unwrap();
    assert_eq!(find("a"), Some(Value::Number(b"2")));
    assert_eq!(find("b.c"), Some(Value::Bool(true)));
    assert_eq!(find("b.d"), Some(Value::Array(br#"[1, {"e": 2}]"#)));
    assert_eq!(find("f"), Some(Value::Null));
    assert_eq!(find("b.d.e"), None);
    assert_eq!(find("c"), None);
    let Some(Value::Object(inner)) = find("b") else { panic!() };
    assert_eq!(member(inner, b"c").unwrap(), Some(Value::String(br"x\u0041")));
    assert_eq!(unescape(br"x\u0041\n\ud83d\ude00\ud83d!").unwrap(), "xA\n\u{1f600}\u{fffd}!".as_bytes());
}

#[test]
fn numbers_round_as_the_standard_library_does() {
    let check = |text: &str| {
        let expected = text.parse::<f64>().unwrap().to_bits();
        assert_eq!(float_bits(text.as_bytes()), expected, "{text}");
    };
    for text in [
        "0",
        "-0",
        "1",
        "-1",
        "0.1",
        "0.3",
        "123456789",
        "9007199254740993",
        "9007199254740992.5",
        "1e308",
        "1.7976931348623157e308",
        "1.7976931348623159e308",
        "1e309",
        "1e400",
        "1e99999999999",
        "5e-324",
        "2.4703282292062327e-324",
        "2.4703282292062328e-324",
        "2.2250738585072014e-308",
        "2.2250738585072011e-308",
        "1e-400",
        "1e-999999",
        "0.000000000000000000000000000000000000000000000000000000000000000000000001",
        "9007199254740992.99999999999999999999999999999999999999999999999999999999999999999",
        "9007199254740993.00000000000000000000000000000000000000000000000000000000000000000000001",
        "179769313486231570000000000000000000000000000000000000000000000000000000000000000000000000000000000",
        "0.5",
        "0.25e1",
        "100e-2",
        "00",
        "1e+5",
        "4.35",
        "0.95",
    ] {
        check(text);
    }
    let mut state = 1u64;
    for _ in 0..20_000 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let value = f64::from_bits(state);
        if value.is_finite() {
            check(&alloc::format!("{value:e}"));
            check(&alloc::format!("{value:.5e}"));
        }
        check(&alloc::format!("0.{}", state >> 20));
    }
    assert_eq!(integer(b"-9223372036854775808"), Some(i64::MIN));
    assert_eq!(integer(b"9223372036854775808"), None);
    assert_eq!(integer(b"1.0"), None);
}

#[test]
fn timestamps_are_those_of_the_calendar() {
    let seconds = |text: &str| nanoseconds(text.as_bytes()).map(|value| value / 1_000_000_000);
    assert_eq!(seconds("1970-01-01T00:00:00Z"), Some(0));
    assert_eq!(seconds("2000-02-29"), Some(951_782_400));
    assert_eq!(seconds("2026-11-21T14:30:00+01:00"), Some(1_795_267_800));
    assert_eq!(seconds("2026-11-21 13:30:00"), Some(1_795_267_800));
    assert_eq!(seconds("1969-12-31T23:59:59z"), Some(-1));
    assert_eq!(nanoseconds(b"1970-01-01T00:00:00.0000000019Z"), Some(1));
    assert_eq!(nanoseconds(b"1970-01-01T00:00:00.5Z"), Some(500_000_000));
    assert_eq!(nanoseconds(b"2262-04-11T23:47:16.854775807Z"), Some(i64::MAX));
    for bad in [
        "",
        "2026",
        "2026-13-01",
        "2026-02-29",
        "2026-00-10",
        "2026-01-00",
        "2026/01/01",
        "2026-01-01T",
        "2026-01-01T1:00:00",
        "2026-01-01T24:00:00Z",
        "2026-01-01T00:60:00Z",
        "2026-01-01T00:00:00.Z",
        "2026-01-01T00:00:00+1:00",
        "2026-01-01T00:00:00Zx",
        "9999-01-01",
        "1600-01-01",
        "2026-01-0a",
    ] {
        assert_eq!(nanoseconds(bad.as_bytes()), None, "{bad}");
    }
    // Every day of 500 years, counted one by one.
    let mut count = 0;
    for year in 1700..2200 {
        let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        for (month, length) in
            [31, 28 + i64::from(leap), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31].iter().enumerate()
        {
            for day in 1..=*length {
                let text = alloc::format!("{year:04}-{:02}-{day:02}", month + 1);
                let days = nanoseconds(text.as_bytes()).unwrap().div_euclid(86_400_000_000_000);
                assert_eq!(days, count - 98_615, "{text}");
                count += 1;
                if let Ok(days) = u64::try_from(days) {
                    let mut written = crate::memory::Text::new();
                    write_time(&mut written, days * 86_400_000_000_000 + 3_661_000_000_007).unwrap();
                    let wanted = alloc::format!("{text}T01:01:01.000000007Z");
                    assert_eq!(written.as_bytes(), wanted.as_bytes());
                }
            }
        }
    }
}
