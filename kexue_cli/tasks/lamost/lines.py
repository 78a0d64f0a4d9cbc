"""Rest wavelengths in angstrom (air) of the lines seen in low-resolution optical spectra."""

from __future__ import annotations

BALMER = {
    "Hα": 6562.8,
    "Hβ": 4861.3,
    "Hγ": 4340.5,
    "Hδ": 4101.7,
    "Hε": 3970.1,
    "H8": 3889.1,
    "H9": 3835.4,
    "H10": 3797.9,
    "H11": 3770.6,
}
PASCHEN = {"P14": 8598.4, "P13": 8665.0, "P12": 8750.5, "P11": 8862.8, "P10": 9014.9}
CALCIUM_HK = {"Ca II K": 3933.7, "Ca II H": 3968.5}
CALCIUM_TRIPLET = {"Ca II 8498": 8498.0, "Ca II 8542": 8542.1, "Ca II 8662": 8662.1}
CALCIUM_I = {"Ca I": 4226.7}
G_BAND = {"G band": 4304.4}
MAGNESIUM_B = {"Mg b1": 5183.6, "Mg b2": 5172.7, "Mg b4": 5167.3}
SODIUM_D = {"Na D2": 5890.0, "Na D1": 5895.9}
IRON = {
    f"Fe I {wavelength:.0f}": wavelength
    for wavelength in (
        4045.8, 4063.6, 4071.7, 4271.8, 4383.5, 4404.8, 4920.5, 4957.6, 5227.2, 5269.5,
        5328.0, 5371.5, 5405.8, 5455.6, 5709.4, 6136.6, 6191.6, 6230.7, 6393.6, 6495.0,
    )
}  # fmt: skip
# Band heads of titanium oxide; the absorption falls off towards the red.
TIO_HEADS = {
    4761.0: 0.5, 4954.0: 0.8, 5167.0: 0.9, 5448.0: 0.8, 5847.0: 0.6, 6158.0: 0.9,
    6651.0: 0.8, 7053.0: 1.0, 7589.0: 0.7, 8432.0: 0.7, 8859.0: 0.5,
}  # fmt: skip
NEBULAR = {
    "[O II]": 3727.4,
    "[Ne III]": 3868.8,
    "[O III] 4959": 4958.9,
    "[O III] 5007": 5006.8,
    "[O I]": 6300.3,
    "[N II] 6548": 6548.1,
    "[N II] 6583": 6583.5,
    "[S II] 6716": 6716.4,
    "[S II] 6731": 6730.8,
}
QUASAR = {
    "Lyα": 1215.7,
    "N V": 1240.1,
    "Si IV": 1396.8,
    "C IV": 1549.1,
    "He II": 1640.4,
    "C III]": 1908.7,
    "Mg II": 2798.8,
    "Hδ": 4101.7,
    "Hγ": 4340.5,
    "Hβ": 4861.3,
    "Hα": 6562.8,
}
SKY = {"[O I] 5577": 5577.3, "Na D": 5893.0, "[O I] 6300": 6300.3, "[O I] 6364": 6363.8}
