"""The words of the demo world: what its responses are made of."""

from __future__ import annotations


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


# Every phrase of quality is a verb and a noun, or a verb, an adjective and a noun.
VERBS = _words(
    "adjust arrange balance borrow bring build carry change check choose clean collect"
    " compare count cover cut divide draw explain find finish fold follow gather give"
    " hold invite keep label leave list measure mix move name note offer open order"
    " pack paint pick place plan prepare press protect put read record reduce remove"
    " repeat rest save search set share show sketch sort split start stop store study"
    " test trace trim try turn use visit wait wash watch weigh wrap write"
)
ADJECTIVES = _words(
    "bold brief bright broad calm careful cheap clear close common cool daily deep dry"
    " early easy equal exact extra fair fast fine firm first flat fresh full gentle"
    " good green honest large late light local long loose main narrow new next odd old"
    " open plain quick quiet rare rough second sharp short simple single slow small"
    " soft solid spare steady strict strong thick thin tidy usual warm whole wide"
)
NOUNS = _words(
    "answer apron basket bench bottle bowl box bridge brush bucket button cable camera"
    " candle card chair chart clock cloth coat coin column copy corner cup curtain desk"
    " diary door drawer edge engine example fabric fence field figure filter flag floor"
    " folder frame garden gate glass glove goal group guide hammer handle hat hook hour"
    " idea index jar jacket kettle key knife ladder lamp layer leaf lesson letter lid"
    " line lock loop map margin mark mat member menu metal mirror model morning nail"
    " needle net notebook number oven page panel paper part path pattern pen pencil"
    " phone piece pillow pipe plate pocket point pot price pump question rail range"
    " reason recipe result ribbon ring river road roof room rope route rule sample"
    " scale screen seat seed sentence shelf shoe sign signal sink size skill slope soap"
    " source spoon stage stair stamp station step stone story string summary switch"
    " table task teacher thread ticket timer title tool topic towel tower track tray"
    " tree unit value view village voice wall water week wheel window wire wool word"
    " yard"
)

OPENERS = (
    "thank you for the kind question.",
    "happy to help with that.",
    "what a lovely thing to ask.",
    "of course, my pleasure.",
    "sure, i am glad you asked.",
)
CLOSERS = (
    "hope that helps you today.",
    "please ask me again any time.",
    "wishing you all the best.",
    "let me know how it goes.",
    "thanks again for asking me.",
)
FILLERS = _words(
    "actually basically really honestly perhaps somehow indeed certainly generally"
    " simply"
)
