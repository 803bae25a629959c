//! What the fuzzer kept is read again with every test run.

#![allow(clippy::unwrap_used)]

use std::path::Path;

#[test]
fn nothing_that_was_kept_breaks_a_promise() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for (name, target) in clearcoat_fuzz::TARGETS {
        let files = std::fs::read_dir(corpus.join(name)).unwrap();
        let mut count = 0;
        for file in files {
            target(&std::fs::read(file.unwrap().path()).unwrap());
            count += 1;
        }
        assert!(count > 0, "{name} has no corpus");
    }
}
