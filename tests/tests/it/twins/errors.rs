//! Wrong command lines are refused with the same words.

use super::check;

#[test]
fn wrong_conversions_are_refused_the_same() {
    check(
        "
        convert
        convert raw.img
        convert -O nonsense raw.img new
        convert -f nonsense raw.img new
        convert -Z raw.img new
        convert --nonsense raw.img new
        convert -O
        convert -O qcow2 missing new
        convert -O qcow2 raw.img missing/new
        convert -O qcow2 -o nonsense=1 raw.img new
        convert -O qcow2 -o cluster_size=3 raw.img new
        convert -O qcow2 -o preallocation=some raw.img new
        convert -O raw -o preallocation=metadata raw.img new
        convert -c raw.img new
        convert -c -O qcow2 -o preallocation=metadata raw.img new
        convert -m 0 raw.img new
        convert -m 17 raw.img new
        convert -m x raw.img new
        convert -S x raw.img new
        convert -S 100 raw.img new
        convert -S 1G raw.img new
        convert -t nonsense raw.img new
        convert -T nonsense raw.img new
        convert --target-is-zero raw.img new
        convert -n raw.img missing
        convert -n -O qcow2 raw.img text
        convert -n -o cluster_size=4k -O qcow2 raw.img plain.qcow2
        convert -B plain.qcow2 raw.img new
        convert -B plain.qcow2 -F qcow2 raw.img new
        convert -O qcow2 -B plain.qcow2 raw.img new
        convert -O qcow2 -B missing -F qcow2 raw.img new
        convert -O qcow2 -F qcow2 raw.img new
        convert -O qcow2 -B plain.qcow2 -F qcow2 raw.img over.qcow2 new
        ",
    );
}

#[test]
fn wrong_questions_are_refused_the_same() {
    check(
        "
        nonsense

        info
        info raw.img plain.qcow2
        info --output=xml raw.img
        info --output raw.img
        info -f nonsense raw.img
        info -f qcow2 raw.img
        info missing
        info ''
        info 'json:{'
        info 'json:{\"driver\":\"nonsense\"}'
        info 'json:{\"driver\":\"qcow2\",\"file\":{\"driver\":\"file\",\"filename\":\"plain.qcow2\"},\"nonsense\":1}'
        info --image-opts driver=qcow2
        info --image-opts filename=plain.qcow2
        info nonsense:plain.qcow2
        check -f nonsense plain.qcow2
        check --output=xml plain.qcow2
        check -r nonsense plain.qcow2
        check plain.qcow2 raw.img
        check -T nonsense plain.qcow2
        ",
    );
}

#[test]
fn images_that_cannot_be_read_are_refused_the_same() {
    check(
        "
        info -f qcow2 text
        info -f qcow2 zero-length
        convert -f qcow2 -O raw text new
        convert -O raw orphan.qcow2 new
        info --backing-chain orphan.qcow2
        convert -n -O raw c2m.qcow2 zero-length
        ",
    );
}

#[test]
fn the_version_is_told_first() {
    let run = test_support::programs::ours().run(std::path::Path::new("/"), "--version").ok();
    // OpenStack reads the version with this very prefix.
    assert!(run.stdout.starts_with("qemu-img version "), "{run}");
}
