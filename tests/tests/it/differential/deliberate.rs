//! Where we differ from the reference on purpose: each line with what differs and the reason.

/// Lines that differ for one and the same reason.
#[derive(Debug)]
pub(super) struct Deliberate {
    /// The lines, as a table makes them or as further ones.
    pub(super) lines: &'static str,
    /// What differs.
    pub(super) what: &'static str,
    /// Why that is right.
    pub(super) why: &'static str,
}

/// The whole list. Besides it a target that could not be completed is removed by us and left by the reference, and what a
/// file system, a clock or the order of allocation decides about is not compared.
pub(super) const ALL: &[Deliberate] = &[
    Deliberate {
        lines: "
            --help
            info --help
            convert --help
        ",
        what: "the text of --help",
        why: "it is our own; programs search it for options, and each synopsis stands on one line for them",
    },
    Deliberate {
        lines: "
            create -f qcow2 --backing-file plain.qcow2 -F qcow2 new
            convert --target-format qcow2 --target-options compat=1.1 --target-cache none plain.qcow2 new
            convert -O qcow2 --compress --progress plain.qcow2 new
            bitmap --add --format qcow2 plain.qcow2 b
        ",
        what: "long names of options that other versions of the reference have, or that its own help promises",
        why: "whoever learned them there can use them here",
    },
    Deliberate {
        lines: "
            map outside.qcow2
            map --output=json outside.qcow2
            measure -O qcow2 outside.qcow2
            compare outside.qcow2 zlib.qcow2
        ",
        what: "an image that lost a part, or whose tables point past its end, is an error",
        why: "the reference takes what is missing for zeros and reports success",
    },
    Deliberate {
        lines: "
            resize --preallocation=metadata bitmaps.qcow2 4M
            ;reference resize --shrink plain.qcow2 1100k; resize plain.qcow2 1200k
        ",
        what: "what a disk gains by growing reads as zeros",
        why: "the reference lets the guest see old metadata and data that was cut off",
    },
    Deliberate {
        lines: "
            snapshot -c s r1.qcow2
        ",
        what: "a snapshot of an image whose counts cannot reach 2 leaks no cluster",
        why: "the reference leaves a cluster behind that nothing refers to",
    },
    Deliberate {
        lines: "
            snapshot -a s raw.img
        ",
        what: "a warning about a probed format is told once",
        why: "the reference opens the image a second time after it has failed",
    },
    Deliberate {
        lines: "
            bitmap --add -g 4G plain.qcow2 bitmap
        ",
        what: "a granularity of 4 GiB or more is told to be too large",
        why: "the reference cuts the number to 32 bits and complains about what is left",
    },
    Deliberate {
        lines: "
            bitmap --add -f qcow2 -f raw plain.qcow2 bitmap
            bitmap --add -f raw plain.qcow2 bitmap
            bitmap --add -f raw raw.img b0
            bitmap --add raw.img bitmap
            bitmap --add text bitmap
            bitmap --add zero-length bitmap
            bitmap --add v2.qcow2 bitmap
            bitmap --add --image-opts driver=raw,file.filename=raw.img bitmap
        ",
        what: "complaints about bitmaps name the image's file",
        why: "the reference names a node of its graph by a number that differs from run to run",
    },
    Deliberate {
        lines: "
            convert -O qcow2 - new
            dd if=plain.qcow2
        ",
        what: "the name -, or with dd none at all, means standard input or output",
        why: "pipes, as Proxmox has them; a file of that name is called ./-",
    },
    Deliberate {
        lines: "
            info --image-opts driver=qcow2,file.driver=raw,file.file.filename=plain.qcow2
            info --image-opts driver=raw,file.driver=qcow2,file.file.filename=plain.qcow2
        ",
        what: "an image that was opened with options is called by the name of its file",
        why: "the reference makes a json: text whose members have the order of its hash table",
    },
    Deliberate {
        lines: "
            rebase -b empty.qcow2 -F qcow2 -F qcow2 -F raw over.qcow2
            rebase -b empty.qcow2 -F qcow2 -F raw over.qcow2
        ",
        what: "zeros that a rebase has to store become zero clusters",
        why: "the reference writes clusters full of zeros",
    },
    Deliberate {
        lines: "
            convert -O qcow2 -c -S 0 plain.qcow2 new
            convert -B plain.qcow2 -F qcow2 -c -O qcow2 over.qcow2 new
        ",
        what: "clusters of zeros are zero clusters also where data is compressed",
        why: "the reference compresses zeros; what the disk shows is the same, and reading it costs less",
    },
    Deliberate {
        lines: "
            ;reference create -q -f qcow2 new 64M; convert -n --target-image-opts -f raw raw.img driver=compress,file.driver=qcow2,file.file.filename=new
        ",
        what: "the filter compress takes writes that are no whole clusters",
        why: "the reference fails there with an I/O error",
    },
    Deliberate {
        lines: "
            amend -o lazy_refcounts=on -o size=9E plain.qcow2
        ",
        what: "amend changes nothing when one of the changes is impossible",
        why: "the reference has made the others by then",
    },
    Deliberate {
        lines: "
            dd -f raw if=raw.img of=raw.img
        ",
        what: "dd does not copy an image onto itself",
        why: "the reference empties it first",
    },
    Deliberate {
        lines: "
            create new 9223372036854775807
        ",
        what: "a size that no file can have is told as such",
        why: "the reference rounds it up, gets a negative number, and says that an argument is invalid",
    },
    Deliberate {
        lines: "
            resize --preallocation=metadata over.qcow2 4M
        ",
        what: "preallocating the new part of an overlay leaves its old last cluster where it is",
        why: "the backing file has it, and zeros behind its end; the reference copies it",
    },
    Deliberate {
        lines: "
            info --image-opts driver=qcow2,file.filename=plain.qcow2,overlap-check=all
            info --image-opts driver=qcow2,file.filename=plain.qcow2,overlap-check=nonesuch
            info --image-opts driver=qcow2,file.filename=plain.qcow2,pass-discard-request=maybe
        ",
        what: "the options overlap-check and pass-discard-* of qcow2 are refused as unknown",
        why: "they are not done yet: writes are always checked against metadata, and freed space is always given back",
    },
    Deliberate {
        lines: "
            info --image-opts driver=null-co,size=x
        ",
        what: "a wrong size is told",
        why: "the reference aborts",
    },
];

/// The lines of an entry.
pub(super) fn lines(text: &'static str) -> impl Iterator<Item = &'static str> {
    text.lines().map(|line| line.trim().trim_start_matches(';')).filter(|line| !line.is_empty())
}

/// Whether `line` is one of those.
pub(super) fn is_listed(line: &str) -> bool {
    ALL.iter().any(|deliberate| lines(deliberate.lines).any(|listed| listed == line))
}
