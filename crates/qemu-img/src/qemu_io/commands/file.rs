//! `open`, `close` and `reopen`.

use qemu_block::types::{CacheMode, OpenFlags};

use super::super::command::{Call, Command, Needs};
use super::super::image::Recipe;
use super::super::shell::{Done, Shell};

pub(super) const OPEN: Command = Command {
    name: "open",
    alias: Some("o"),
    arguments: Some("[-rsCnkU] [-t cache] [-d discard] [-o options] [path]"),
    summary: "open the file specified by path",
    details: "
 -r            read-only
 -s            keep all changes in a temporary file
 -C            copy what is read from the backing file into the image
 -n            bypass the host's cache, as -t none
 -U            open the image even if another process is writing to it
 -k            the same as -i native
 -i MODE       how requests are made: threads, native or io_uring
 -t MODE       cache mode
 -d MODE       what discards do: unmap or ignore
 -o OPTIONS    options of the driver (driver=...,file.filename=...)
",
    words: (1, None),
    needs: Needs::Nothing,
    run: open,
};

pub(super) const CLOSE: Command = Command {
    name: "close",
    alias: Some("c"),
    arguments: None,
    summary: "close the current open file",
    details: "",
    words: (0, Some(0)),
    needs: Needs::Image,
    run: |shell, _| {
        shell.finish();
        shell.close()
    },
};

pub(super) const REOPEN: Command = Command {
    name: "reopen",
    alias: None,
    arguments: Some("[(-r|-w)] [-c cache] [-o options]"),
    summary: "reopens an image with new options",
    details: "
 -r            read-only
 -w            read-write
 -c MODE       cache mode
 -o OPTIONS    options of the driver; those that are not named stay as they are

",
    words: (0, None),
    needs: Needs::Image,
    run: reopen,
};

fn open(shell: &mut Shell, call: &Call<'_>) -> Done {
    let mut letters = call.letters("snCro:ki:t:d:U");
    let mut recipe = Recipe::new();
    while let Some((letter, value)) = call.next_option(shell, &mut letters)? {
        match letter {
            's' => recipe.snapshot = true,
            'n' => recipe.set_no_cache(),
            'C' => recipe.copy_on_read = true,
            'r' => recipe.flags.remove(OpenFlags::WRITE),
            'k' => recipe.native_aio = true,
            'U' => recipe.flags.insert(OpenFlags::FORCE_SHARE),
            't' => match CacheMode::parse(value) {
                Some(mode) => recipe.set_cache(mode),
                None => return Err(shell.report_error(format!("Invalid cache option: {value}"))),
            },
            'd' if recipe.set_discard(value) => {}
            'd' => return Err(shell.report_error(format!("Invalid discard option: {value}"))),
            'i' if recipe.set_aio(value) => {}
            'i' => return Err(shell.report_error(format!("Invalid aio option: {value}"))),
            _ if shell.settings.image_opts => {
                return Err(shell.refuse("--image-opts and 'open -o' are mutually exclusive"));
            }
            _ => recipe.options.merge(shell.parse_options(value)?),
        }
    }
    match letters.into_operands()[..] {
        [] => {}
        [options] if shell.settings.image_opts => recipe.options.merge(shell.parse_options(options)?),
        [name] => recipe.filename = Some(name.to_owned()),
        _ => return Err(call.usage(shell)),
    }
    shell.open(recipe)
}

fn reopen(shell: &mut Shell, call: &Call<'_>) -> Done {
    let mut letters = call.letters("c:o:rw");
    let mut cache = None;
    let mut access = None;
    let mut options = qemu_block::options::Options::new();
    while let Some((letter, value)) = call.next_option(shell, &mut letters)? {
        match letter {
            'c' => match CacheMode::parse(value) {
                Some(mode) => cache = Some(mode),
                None => return Err(shell.report_error(format!("Invalid cache option: {value}"))),
            },
            'o' => options.merge(shell.parse_options(value)?),
            _ if access.is_some() => return Err(shell.report_error("Only one -r/-w option may be given")),
            _ => access = Some(letter == 'w'),
        }
    }
    if !letters.into_operands().is_empty() {
        return Err(call.usage(shell));
    }
    if access.is_some() && options.contains("read-only") {
        return Err(shell.report_error("Cannot set both -r/-w and 'read-only'"));
    }
    if cache.is_some() && (options.contains("cache.direct") || options.contains("cache.no-flush")) {
        return Err(shell.report_error("Cannot set both -c and the cache options"));
    }
    shell.reopen(|recipe| {
        recipe.options.merge(options);
        if let Some(mode) = cache {
            recipe.set_cache(mode);
        }
        if let Some(writable) = access {
            recipe.options.take("read-only");
            recipe.flags.set(OpenFlags::WRITE, writable);
        }
    })
}
