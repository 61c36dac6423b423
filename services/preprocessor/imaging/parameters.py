"""Every number the imaging functions depend on, with its unit and the reason for its value."""

from __future__ import annotations

from dataclasses import dataclass

#: Side of the square every network takes, in pixels (the wire tensor is uint8 [n,224,224,3]).
SIDE = 224


@dataclass(frozen=True, slots=True)
class ImagingParameters:
    """Parameters of decoding, normalisation and quality judgement.

    Lengths are in pixels of the 224 × 224 square unless the name says otherwise, grey levels are 0–255,
    shares are 0–1. The networks were trained with the defaults: a change to anything that reaches the pixels
    (lit field, falloff, colour constancy, exposure, hair, denoise) calls for new training.
    """

    # --- decoding -------------------------------------------------------------------------------------
    #: Width × height above which a file is refused before any pixel is decoded. Phones' "50 megapixel" mode
    #: gives 8,192 × 6,144 = 50.3 million; decoded as RGB the limit is 180 MB.
    max_pixels: int = 60_000_000
    #: The same for WebP and AVIF, whose decoders hold three more copies of the picture: 24 megapixels of WebP take
    #: 430 MB, 59 would take 1,070, beyond what one file may cost. No camera writes them; web pages' are far smaller.
    max_pixels_many_copies: int = 24_000_000
    #: Longest side in pixels; nothing a camera makes is longer, and one-pixel-high strips end here.
    max_side: int = 16_384
    #: Shortest side in pixels below which there is too little lesion to look at (upscaled 3.5 ×).
    min_side: int = 64
    #: A large JPEG is decoded at 1/2, 1/4 or 1/8 scale as long as its short side keeps this many times 224:
    #: two source pixels for each target pixel still average cleanly.
    decode_oversampling: int = 2

    # --- lit field ------------------------------------------------------------------------------------
    #: Grey level of the brightest channel below which a pixel is as good as black, and the same as a share of that of
    #: the light, which one pixel in ten exceeds. Frames of dermatoscopes have 0–30, and more in bright light.
    field_dark: int = 40
    field_dark_of_light: float = 0.25
    #: Share of the square that has to be dark around what is lit. Corners that take 1.4 % still move the malignant
    #: logit by 0.4 on average, drawn around 600 test images.
    field_dark_share: float = 0.006
    #: Share of a row or column that has to be dark for a bar: a clock or a scale may stand in it.
    field_bar: float = 0.95
    #: Side of the square around a disc, in diameters: 0.9 leaves 6 % of it beyond the rim, in the corners. The whole
    #: disc and the square within it (0.71) were both worse: AUC 0.872 and 0.869 instead of 0.877.
    field_framed: float = 0.9
    #: Least side of that square, in sides of the centre square. What is smaller has too few pixels, or is a lamp.
    field_least: float = 0.3
    #: Half axes' greatest ratio: round frames in pictures that were squeezed to a square have up to 1.8.
    field_flattest: float = 2.0
    #: Share of the dark and of what lies outside the shape, together, that has to be both.
    field_agreement: float = 0.75
    #: Distance from the centre, 1 at the rim, from which pixels are replaced: the rim is blurred.
    field_inside_rim: float = 0.94

    # --- falloff of the light -------------------------------------------------------------------------
    #: Distance from the centre, in half sides, from which light that falls off is evened; the skin in the fifth of
    #: a side before it is what the rest is compared with.
    falloff_from: float = 0.65
    #: Share of that skin's brightness below which all four corners have to lie; lesions and shadows darken fewer. The
    #: networks know milder falloff: evening that, too (0.85), cost the test side 0.003 of its AUC.
    falloff_least: float = 0.75
    #: Largest gain; a larger one would show noise.
    falloff_gain_max: float = 4.0

    # --- colour constancy -----------------------------------------------------------------------------
    #: Minkowski norm of shades of gray; 6 was the best of Finlayson & Trezzi (2004).
    minkowski_norm: float = 6.0
    #: Bounds of each channel's gain. Skin under daylight needs about 0.8–1.3; a photo that asks for more has
    #: a strongly coloured subject or light, and a larger gain would only multiply its noise.
    gain_min: float = 0.6
    gain_max: float = 1.6

    # --- exposure -------------------------------------------------------------------------------------
    #: Grey level that one pixel in ten has to exceed in its brightest channel, after colour constancy. Of 2,500 images
    #: of the data nine in ten do, half of them exceed 190.
    least_light: int = 162
    #: Largest gain; what is darker is refused, or shows noise.
    exposure_gain_max: float = 4.0

    # --- hair -----------------------------------------------------------------------------------------
    #: Length across a hair of the closing that erases it. Hairs of 2–4 px are found at nearly every angle.
    hair_width: int = 7
    #: Length along a hair that must stay dark. The sides of a pigment network's meshes and dots
    #: are shorter, so they rarely survive an opening this long.
    hair_length: int = 17
    #: Number of orientations over 180°; 15° apart, a line of 17 px strays at most 1.1 px from a hair.
    hair_orientations: int = 12
    #: Grey levels by which a hair is darker than its surroundings: to find one, and to follow it.
    hair_contrast_high: int = 20
    hair_contrast_low: int = 10
    #: Least diagonal of a component's bounding box. Streaks and dark clefts within a lesion are shorter;
    #: stubble is too and stays, since taking a lesion's structure away costs more than leaving a hair.
    hair_extent: int = 36
    #: Largest mean distance of a component's pixels from its edge: a line of width w has about (w + 2)/4, so
    #: this is 5 px wide. Measured that way, crossing hairs count as thin although their bounding box is not.
    hair_mean_depth: float = 1.75
    #: Enclosed meshes from which a connected component is a pigment network and not hair. The finest networks
    #: (mesh of 4–6 px) are dense enough to look long and straight, and have 75–250; crossing hairs in 4,000
    #: training images enclose at most 38.
    network_meshes: int = 40
    #: Share of the square that may be painted over. Above it nothing is: so much "hair" is texture, and
    #: inpainting it would invent skin and cost unbounded time.
    hair_share_cap: float = 0.15
    #: Radius of Telea's neighbourhood. On lines drawn over real skin 2 restores the covered pixels as well as
    #: 3 does (mean error 5.5 grey levels) in half the time (7 ms at the cap).
    inpaint_radius: int = 2

    # --- denoise --------------------------------------------------------------------------------------
    #: Side of the median window. Measured on 11 upload-size photographs against the same ones packed as the
    #: training images are (AVIF, quality 45): the power between 0.2 and 0.5 cycles/px differs by a factor
    #: of 1.8–3.7 before and 1.5–1.7 after; Gaussian and bilateral filters of equal effect leave 1.6–2.6.
    median_window: int = 3

    # --- lesion mask ----------------------------------------------------------------------------------
    #: Standard deviation of the blur before thresholding: joins network and dots to one region.
    mask_blur: float = 3.0
    #: Least difference (CIE L*a*b* units) between the mean of the lesion and of the skin around it.
    mask_contrast: float = 6.0
    #: Smallest and largest share of the square that a lesion may take.
    mask_share_min: float = 0.004
    mask_share_max: float = 0.90

    # --- quality: refusals that the person may overrule ------------------------------------------------
    #: Mean grey level below / above which hardly any tone is left; training images have 45–243, but for one.
    dark_mean: float = 25.0
    bright_mean: float = 245.0
    #: Standard deviation of the grey level below which the frame shows nothing; training images have ≥ 4.
    blank_deviation: float = 1.5
    #: Least sharpness (see QualityMeasures). Of 4,634 training images none lies below 0.021; photographs
    #: blurred with a standard deviation of 6 px at 224 have 0.005–0.019, with 8 px at most 0.013.
    blur_sharpness: float = 0.015

    # --- quality: advice ------------------------------------------------------------------------------
    #: Share of clipped, colourless pixels that counts as glare.
    glare_share: float = 0.05
    #: Distance of the lesion's centroid from the centre, in half sides.
    off_centre: float = 0.6
    #: Share of the frame's edge that the lesion covers.
    cut_off_share: float = 0.25


#: What training and serving use.
DEFAULT = ImagingParameters()
