//! The examples run to their ends and print what they promise.

#[expect(dead_code, reason = "its `main` is for the program")]
#[path = "../../examples/event_loop.rs"]
mod event_loop;
#[expect(dead_code, reason = "its `main` is for the program")]
#[path = "../../examples/pipeline.rs"]
mod pipeline;
#[expect(dead_code, reason = "its `main` is for the program")]
#[path = "../../examples/rcu_table.rs"]
mod rcu_table;

fn text_of(example: impl FnOnce(&mut Vec<u8>) -> std::io::Result<()>) -> String {
    let mut out = Vec::new();
    example(&mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn an_event_loop() {
    let expected = "read: wake-ups are never lost\nin several pieces: true\nthe clock went on meanwhile: true\n";
    assert_eq!(text_of(event_loop::run), expected);
}

#[test]
fn a_table_under_rcu() {
    assert_eq!(text_of(rcu_table::run), "version: 200\nevery reader saw whole tables: true\n");
}

#[test]
fn a_pipeline_of_tasks() {
    let expected = "the squares of 1 to 1000 add up to 333833500\nnever more than 8 waited: true\n";
    assert_eq!(text_of(pipeline::run), expected);
}
