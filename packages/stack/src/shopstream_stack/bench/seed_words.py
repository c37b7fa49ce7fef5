"""The words that seeded products are named by; the more common ones come first."""

from typing import Final

ADJECTIVES: Final = (
    "new classic small large light modern natural soft compact portable premium slim organic "
    "vintage heavy waterproof foldable wireless handmade adjustable durable elegant quiet rustic "
    "stackable reversible insulated breathable ergonomic recycled polished woven quilted tapered "
    "padded brushed seamless magnetic rechargeable stainless"
)
MATERIALS: Final = (
    "cotton steel wood leather glass wool oak linen ceramic aluminium bamboo silk walnut canvas "
    "copper rubber denim marble brass cork felt velvet titanium porcelain beech acrylic cashmere "
    "granite rattan suede"
)
NOUNS: Final = (
    "shirt lamp chair table bag mug keyboard jacket bottle blanket watch desk shelf pillow cable "
    "backpack monitor notebook bowl headphones wallet scarf speaker candle tray mirror clock rug "
    "charger knife basket vase stool curtain kettle sweater pan belt plate umbrella mouse towel "
    "frame socks planter cushion bench cabinet grinder helmet tripod gloves hammock lantern "
    "teapot easel drawer ottoman sofa wardrobe bicycle telescope microscope trampoline"
)
COLOURS: Final = (
    "black white grey blue red green brown beige navy yellow pink orange purple teal ivory "
    "burgundy olive turquoise lavender charcoal"
)
CATEGORIES: Final = (
    "clothing home kitchen electronics garden sports toys books beauty office outdoor jewellery "
    "furniture lighting music pets automotive tools baby travel"
)
#: Three in a row coin a brand: 64 to the third are some 262,000 words, more than a dictionary.
SYLLABLES: Final = (
    "ba be bi bo bra bri ca ce co cra da de di do dra el fa fe fi fla ga ge go gra ha he hi ja jo "
    "ka ke ki kra la le li lo lu ma me mi mo na ne no or pa pe pra qua ra re ri ro sa se sta ta "
    "ti tra va vi xe zo"
)
