//! Where the programs still differ although they should not. Whoever mends one takes its line away.

/// The lines; `*` stands for any text.
const LINES: &str = "
    create -f luks -o help
    measure -O luks --size 1G
    amend -f luks -o help
    convert -O luks -o help
    create new 9223372036854775807
    resize --preallocation=metadata over.qcow2 4M
    info --image-opts driver=qcow2,file.filename=plain.qcow2,detect-zeroes=*
    info --image-opts driver=qcow2,file.filename=plain.qcow2,overlap-check=*
    info --image-opts driver=qcow2,file.filename=plain.qcow2,pass-discard-request=maybe
    map --output=json --image-opts driver=raw,file.driver=qcow2,file.file.filename=plain.qcow2
    bench * -n *
    bench * -n
    bench * --native *
    bench * native *
    bench * --=1 *
    amend * --=1 *
    amend -o lazy_refcounts=on -o size=9E plain.qcow2
    amend -o lazy_refcounts=on -p --image-opts plain.qcow2
    amend -o compat=0.10 snap.qcow2
    commit --=1 *
    commit *./plain.qcow2 over.qcow2
    commit raw.img
    commit text
    commit zero-length
    lock plain.qcow2; commit over.qcow2
    protect plain.qcow2; commit over.qcow2
    convert -O qcow2 --=1 *
    convert -O qcow2 -c -S 0 *
    convert -B plain.qcow2 -F qcow2 -c -O qcow2 over.qcow2 new
    lock plain.qcow2; rebase -b empty.qcow2 -F qcow2 -U plain.qcow2
    dd -f raw if=raw.img of=raw.img
    rebase -c *
    rebase * --=1 *
    rebase * -U *
    rebase * --force*
    rebase * -U
    rebase * -c *
    rebase * -c
    rebase * --com*
    rebase * -p --image-opts over.qcow2
";

/// Whether `line` is one of those.
pub(super) fn is_listed(line: &str) -> bool {
    LINES.lines().map(str::trim).filter(|pattern| !pattern.is_empty()).any(|pattern| matches(pattern, line))
}

fn matches(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((start, rest)) => text.strip_prefix(start).is_some_and(|text| {
            text.char_indices().map(|(at, _)| at).chain([text.len()]).any(|at| matches(rest, &text[at..]))
        }),
    }
}

#[test]
fn patterns_match_whole_lines() {
    assert!(matches("info", "info") && !matches("info", "info x") && !matches("info", "an info"));
    assert!(matches("a*c", "ac") && matches("a*c", "abbc") && !matches("a*c", "acd"));
    assert!(matches("* -p *", "convert -p x") && !matches("* -p *", "convert -px"));
}
