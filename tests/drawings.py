"""Pictures drawn for a test, and what is true of them."""

from nano_training.word_list import read_list
from PIL import Image, ImageDraw, ImageFont

GROUNDS = ((225, 235, 245), (205, 205, 205), (240, 225, 200))


def draw_sign(rng):
    """A sign with a random word in a random place: the picture, the word, and where the sign is."""
    word = rng.choice([one for one in read_list() if 4 <= len(one) <= 7]).upper()
    picture = Image.new("RGB", (448, 448), rng.choice(GROUNDS))
    font = ImageFont.load_default(rng.randint(34, 48))
    width, height = round(font.getlength(word)) + 36, round(font.size * 1.6)
    left, top = rng.randint(10, 438 - width), rng.randint(10, 438 - height)
    box = (left, top, left + width, top + height)
    pen = ImageDraw.Draw(picture)
    pen.rectangle((left, top, box[2] - 1, box[3] - 1), fill="white", outline="black", width=3)
    middle = (left + box[2]) / 2, (top + box[3]) / 2
    pen.text(middle, word, fill="black", font=font, anchor="mm")
    return picture, word, box
