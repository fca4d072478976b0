"""A fall or daily life, from a phone in the pocket and four tags on the body: five variants, two kinds of sensor."""
