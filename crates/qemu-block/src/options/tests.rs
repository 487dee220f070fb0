//! The grammars and texts of the reference; the messages were taken from `qemu-img` 10.0.

use proptest::prelude::*;

use super::{
    CreateOption, OptionKind, OptionValue, Options, check_create_options, create_options_help, has_help_option,
    is_valid_option_list,
};

fn keyval(text: &str) -> Vec<(String, String)> {
    let options = Options::parse_keyval(text, None).unwrap();
    options.iter().map(|(key, value)| (key.to_owned(), value.to_text())).collect()
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn keyval_follows_qemu_opts() {
    assert_eq!(keyval("a=b,c.d=e"), pairs(&[("a", "b"), ("c.d", "e")]));
    assert_eq!(keyval("a=x,,y,b=1"), pairs(&[("a", "x,y"), ("b", "1")]));
    assert_eq!(keyval("a=1,a=2"), pairs(&[("a", "2")]));
    assert_eq!(keyval("lazy,nocow"), pairs(&[("cow", "off"), ("lazy", "on")]));
    assert_eq!(keyval("a=b=c,"), pairs(&[("a", "b=c")]));
    assert_eq!(keyval("=1"), pairs(&[("", "1")]));
    assert_eq!(keyval("a="), pairs(&[("a", "")]));
    assert_eq!(keyval("id=1"), pairs(&[]));
    let options = Options::parse_keyval("a,,b,c=d,e", Some("file")).unwrap();
    assert_eq!(options.get_str("file").as_deref(), Some("a,b"));
    let (_, switches) = Options::parse_keyval_with_switches("x,a=1,noy", Some("file")).unwrap();
    assert_eq!(switches, ["y"]);
}

#[test]
fn option_lists_have_no_empty_items() {
    for text in ["a=b", "a=b,c", "a=b,,c", "help"] {
        assert!(is_valid_option_list(text), "{text}");
    }
    for text in [",,", "cluster_size=64k,", ",cluster_size=64k", ","] {
        assert!(!is_valid_option_list(text), "{text}");
    }
    assert!(has_help_option("help") && has_help_option("a=b,?") && !has_help_option("a=help"));
}

#[test]
fn json_is_flattened() {
    let text = r#"{"driver":"qcow2","file":{"driver":"file","n":[{"a":1},"x"]},"backing":null,"b":true}"#;
    let mut options = Options::parse_json(text).unwrap();
    assert_eq!(options.keys().collect::<Vec<_>>(), ["b", "backing", "driver", "file.driver", "file.n.0.a", "file.n.1"]);
    assert_eq!(options.take("backing"), Some(OptionValue::Null));
    assert!(options.contains_sub("file") && !options.contains_sub("fil"));
    let mut file = options.take_sub("file");
    assert_eq!(file.take_number("n.0.a").unwrap(), Some(1));
    assert_eq!(file.keys().collect::<Vec<_>>(), ["driver", "n.1"]);
    assert_eq!(options.take_bool("b").unwrap(), Some(true));
}

#[test]
fn bad_json_is_refused() {
    let message = |text: &str| Options::parse_json(text).unwrap_err().chain();
    assert_eq!(message("{"), "Could not parse the JSON options: JSON parse error, premature EOI");
    assert_eq!(message("[]"), "Invalid JSON object given");
    let deep = format!("{}1{}", "{\"a\":".repeat(2000), "}".repeat(2000));
    assert!(message(&deep).contains("recursion limit"));
    let wide = format!("{{\"a\":[{}1]}}", "1,".repeat(10_000));
    assert_eq!(message(&wide), "Too many options");
    assert_eq!(message(r#"{"a":{}}"#), "Parameter 'a' must not be empty");
}

#[test]
fn prefixes_end_at_the_dot() {
    let mut options = Options::parse_keyval("file=1,file.a=2,file-x=3,filea=4,file.b=5", None).unwrap();
    let sub = options.take_sub("file");
    assert_eq!(sub.keys().collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(options.keys().collect::<Vec<_>>(), ["file", "file-x", "filea"]);
}

const SCHEMA: [CreateOption; 4] = [
    CreateOption { name: "size", help: "Virtual disk size", kind: OptionKind::Size, default: None },
    CreateOption { name: "refcount_bits", help: "Width", kind: OptionKind::Number, default: Some("16") },
    CreateOption { name: "lazy", help: "Postpone", kind: OptionKind::Bool, default: Some("off") },
    CreateOption { name: "extent_size_hint", help: "Hint", kind: OptionKind::Size, default: None },
];

fn create_error(text: &str) -> String {
    check_create_options(&SCHEMA, &Options::parse_keyval(text, None).unwrap()).unwrap_err().chain()
}

#[test]
fn create_options_are_checked_with_the_references_texts() {
    assert_eq!(create_error("foo=1"), "Invalid parameter 'foo'");
    assert_eq!(create_error("=1"), "Invalid parameter ''");
    assert_eq!(create_error("lazy=maybe"), "Parameter 'lazy' expects 'on' or 'off'");
    assert_eq!(create_error("size=-1"), "Value '-1' is out of range for parameter 'size'");
    assert_eq!(
        create_error("size=abc"),
        "Parameter 'size' expects a non-negative number below 2^64\n\
         Optional suffix k, M, G, T, P or E means kilo-, mega-, giga-, tera-, peta-\n\
         and exabytes, respectively."
    );
    assert_eq!(create_error("refcount_bits=abc"), "Parameter 'refcount_bits' expects a number");
    assert_eq!(create_error("refcount_bits="), "Parameter 'refcount_bits' expects a number");
    assert_eq!(
        create_error("refcount_bits=99999999999999999999"),
        "Value '99999999999999999999' is too large for parameter 'refcount_bits'"
    );
    let options = Options::parse_keyval("size=1M,lazy,size=2M", None).unwrap();
    let mut checked = check_create_options(&SCHEMA, &options).unwrap();
    assert_eq!(checked.take_size("size").unwrap(), Some(2 << 20));
    assert_eq!(checked.to_keyval(), "lazy=on,refcount_bits=16");
    let wrapped = Options::parse_keyval("refcount_bits=-1", None).unwrap();
    let mut checked = check_create_options(&SCHEMA, &wrapped).unwrap();
    assert_eq!(checked.take_number("refcount_bits").unwrap(), Some(u64::MAX));
}

#[test]
fn help_lines_are_sorted_and_padded() {
    let lines = create_options_help(&SCHEMA);
    assert_eq!(lines[0], "  extent_size_hint=<size> - Hint");
    assert_eq!(lines[1], "  lazy=<bool (on/off)>   - Postpone");
    assert_eq!(lines[3], "  size=<size>            - Virtual disk size");
}

proptest! {
    #[test]
    fn what_is_printed_is_parsed(entries in prop::collection::btree_map("[a-z][a-z0-9._-]{0,8}", ".{0,12}", 0..8)) {
        let mut options = Options::new();
        for (key, value) in entries.iter().filter(|(key, _)| *key != "id") {
            options.set(key.clone(), value.clone());
        }
        prop_assert_eq!(Options::parse_keyval(&options.to_keyval(), None).unwrap(), options);
    }

    #[test]
    fn parsers_never_panic(text in ".{0,60}") {
        drop(Options::parse_keyval(&text, Some("file")));
        drop(Options::parse_json(&text));
        is_valid_option_list(&text);
    }
}
