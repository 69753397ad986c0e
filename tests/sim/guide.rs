//! Pages of the guide that are made from the code. `ALLUVIUM_WRITE_PAGES=1 cargo test --test sim guide` writes them anew.

use std::fs;
use std::path::Path;

#[test]
fn the_page_of_fault_points_is_what_the_code_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/guide/fault-points.md");
    let page = alluvium::testing::faults::page();
    if std::env::var_os("ALLUVIUM_WRITE_PAGES").is_some() {
        fs::write(&path, &page).expect("the page can be written");
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == page,
        "{} is not what the code says: write it anew with ALLUVIUM_WRITE_PAGES=1 cargo test --test sim guide",
        path.display()
    );
}
