//! Panels of every shape, and the exact pixels of one.

use super::*;
use crate::report::canvas::WHITE;

fn panel(picture: Picture<'_>, tiles: Vec<Tile>) -> Panel<'_> {
    let title = vec!["Original".into(), "Predicted: fake (0.97), Actual: fake".into()];
    Panel { picture, title, wrong: false, outline: None, scale: Scale::Unit, tiles }
}

fn tile(caption: &str, values: usize) -> Tile {
    Tile { caption: caption.into(), map: vec![1.0; values], note: None }
}

#[test]
fn a_panel_has_a_column_per_picture_and_the_overlays_exact_colours() {
    let rgb = vec![0; 128 * 128 * 3];
    let picture = Picture { width: 128, height: 128, rgb: &rgb };
    let image = panel(picture, vec![tile("Grad-CAM\nLayer: conv2d_1", 128 * 128)]).render().unwrap();
    let above = 2 * LEADING + 4;
    assert_eq!(image.dimensions(), (2 * MARGIN + 2 * SIDE + GAP + BAR_ROOM, 2 * MARGIN + above + SIDE));
    let centre = |column: u32| *image.get_pixel(MARGIN + column * (SIDE + GAP) + SIDE / 2, MARGIN + above + SIDE / 2);
    assert_eq!(centre(0).0, [0, 0, 0]);
    assert_eq!(centre(1).0, [177, 178, 147]);
    assert_eq!(*image.get_pixel(0, 0), WHITE);
}

#[test]
fn the_scale_is_the_panels_and_a_stretch_goes_by_the_map_before_it_is_resized() {
    let rgb = [0; 6];
    let mut tile = tile("Grad-CAM\nLayer: conv2d_3", 2);
    tile.map = vec![0.5, 0.5 + 1e-4];
    let mut panel = panel(Picture { width: 2, height: 1, rgb: &rgb }, vec![tile]);
    // The two ends of the overlay on black: flat on the fixed scale, all of magma when stretched.
    let mut ends = |scale| {
        panel.scale = scale;
        let image = panel.render().unwrap();
        let (x, y) = (MARGIN + SIDE + GAP, MARGIN + 2 * LEADING + 4 + 64);
        [x, x + SIDE - 1].map(|x| image.get_pixel(x, y).0)
    };
    let flat = ends(Scale::Unit);
    assert_eq!(flat[0], flat[1]);
    assert_eq!(ends(Scale::Stretch), [[51, 51, 53], [177, 178, 147]]);
}

#[test]
fn odd_pictures_and_very_long_names_do_not_panic() {
    let name = "a class name that goes on and on ".repeat(20);
    for (width, height) in [(1, 1), (500, 20), (20, 500), (1, 5000), (3, 2), (171, 171), (341, 342), (900, 700)] {
        let rgb = vec![90; (width * height * 3) as usize];
        let mut panel = panel(Picture { width, height, rgb: &rgb }, vec![tile(&name, (width * height) as usize)]);
        panel.title = vec![name.clone(), name.clone(), "x".repeat(300)];
        panel.wrong = true;
        panel.outline = Some(Outline { x: 0, y: height / 2, width: u32::MAX, height: 7 });
        panel.tiles[0].note = Some(no_evidence(&name));
        panel.tiles[0].map[0] = f32::NAN;
        for scale in [Scale::Unit, Scale::Stretch, Scale::Signed] {
            panel.scale = scale;
            let image = panel.render().unwrap();
            assert!(image.width() < 900 && image.height() < 560, "{width} x {height}: {:?}", image.dimensions());
        }
    }
}

#[test]
fn a_wrong_prediction_is_red_and_a_right_one_has_no_red() {
    let rgb = [128; 12];
    let mut panel = panel(Picture { width: 2, height: 2, rgb: &rgb }, vec![]);
    let reds = |image: RgbImage| image.pixels().filter(|p| **p == RED).count();
    assert_eq!(reds(panel.render().unwrap()), 0);
    panel.wrong = true;
    assert!(reds(panel.render().unwrap()) > 3 * 4 * 256);
}

#[test]
fn a_note_makes_room_for_itself_under_the_pictures() {
    let rgb = [128; 12];
    let picture = Picture { width: 2, height: 2, rgb: &rgb };
    let plain = panel(picture, vec![tile("Grad-CAM\nLayer: conv2d_1", 4)]);
    let mut noted = plain.clone();
    noted.tiles[0].note = Some(no_evidence("fake"));
    assert_eq!(noted.render().unwrap().height(), plain.render().unwrap().height() + LEADING);
}

#[test]
fn what_does_not_match_the_picture_is_an_error_that_says_so() {
    let rgb = [0; 11];
    let error = panel(Picture { width: 2, height: 2, rgb: &rgb }, vec![]).render().unwrap_err().to_string();
    assert!(error.contains("2 x 2") && error.contains("11"), "{error}");
    assert!(panel(Picture { width: 0, height: 2, rgb: &[] }, vec![]).render().is_err());
    let rgb = [0; 12];
    let error = panel(Picture { width: 2, height: 2, rgb: &rgb }, vec![tile("LayerCAM\nLayer: conv2d_2", 3)]).render();
    let error = error.unwrap_err().to_string();
    assert!(error.contains("conv2d_2") && error.contains("3 values"), "{error}");
}
