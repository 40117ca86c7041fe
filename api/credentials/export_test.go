package credentials

// OpenAt is Open with a clock.
var OpenAt = open

// LookEvery is how often at most the files are looked at.
const LookEvery = lookEvery
