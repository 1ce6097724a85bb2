"""What a text tells in words: what was seen of an adapter, where no traceback says so.

A sentence is a statement when its parts meet: what it is about (the adapter, or an output beside "with and without"), what was
seen of it, and a negation where one is needed. Sentences about speed, memory or the same *error* are about something else.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator

from adapterfit import limits
from adapterfit.read.log_text import Text
from adapterfit.symptoms import LogStatement

#: Characters of a sentence that are looked at, and of a text.
_SENTENCE, _LONG, _TEXT = 500, 300, 60_000
_END = re.compile(r"(?<=[.!?;:])\s")
_ADAPTER = re.compile(
    r"\b(?:[qr]?s?loras?|doras?|adapt[eo]rs?|peft\w*|ia3|locons?|lycoris)\b|fine[ -]?tun|\blora_|load_adapter|load_lora"
)
_OTHER = re.compile(
    r"\b(?:memory|vram|ram|oom|speed|faster|slower|throughput|latency|tokens?/s|learning rate|batch size|gpus?|disk space|tokeni[sz]er"
    r"|seconds|minutes|slow|per step|repeat\w*|grad(?:ient)?s?|requires_grad|versions? of|license|readme|datasets?|setting|training time|docs?|documentation|system prompt|chat template)\b"
    r"|\b(?:rank|r|alpha|lora_alpha|dropout|epochs|steps|target_modules)\b (?:\S+ ){0,4}?(?:has|have|had|does|do|makes?)\b|\b(?:eval|train|training|validation) loss"
    r"|\b(?:network|wi-?fi|usb|power|database|sql\w*|bluetooth|ethernet|display|http|jdbc|storage|cache|ac|graphics) adapters?\b"
    r"|\bno (?:loras?|adapt[eo]rs?) (?:is |are )?(?:involved|used|here|needed)\b"
    r"|\b(?!load_)[a-z]+_[a-z_]+\b['\"`]? (?:has|have|had|makes?|does|is|are) (?:no|not|ignored)\b"
    r"|\b(?:effects?|influence|impact) on (?:the |my |our )?(?:training|time|loss|cost|size|gradients?)\b"
    r"|same (?:error|issue|problem|exception|crash|traceback|warning|bug|question|machine|time)"
)
#: How somebody begins who reports it, too.
_ALSO = re.compile(r"\bsame (?:issue|problem|thing|bug)(?: \w+){0,3}[,:]")
#: What somebody asks for, or about; where it goes on with "but", something was seen after all.
_WISH = re.compile(
    r"\s*(?:(?:i|we) (?:would like|want|need|plan|intend|am trying|'d like)\b|(?:how|where|what|which|should|can|could|does|do|is it|are there|is there|please)\b|there is no .*, is there\?)"
)
_BUT = re.compile(r"\b(?:but|however|although|yet|still)\b")
_OUTPUT = (
    r"(?:outputs?|results?|answers?|responses?|generations?|images?|predictions?|logits|texts?|replies|reply|completions?|"
    r"scores?|metrics?|quality|inference|videos?|pictures?|behaviou?rs?|accuracy|performance|style)"
)
_SAME = re.compile(
    r"\b(?:same|identical(?:ly)?|unchanged|indistinguishable|no (?:\w+ )?differences?|(?:equals?|match(?:es)?|equivalent to) (?:\w+ ){0,4}?(?:base|original))\b"
    r"|\b(?:exactly|just|only) (?:as|like) the (?:base|original)\b|n't (?:\w+ ){0,2}differ\b"
)
_BASE = re.compile(
    r"\b(?:base|original|vanilla|pre-?trained|foundation|untuned|unadapted|non-?fine-?tuned)(?: \w+)? ?-?(?:models?|weights|checkpoint|llm|one|version)\b"
    r"|\bwith\b.{0,60}\bwithout\b|\bwithout\b.{0,60}\bwith\b"
    r"|\bboth (?:\w+ )?(?:models?|outputs?|results?|answers?|versions?)\b"
    r"|\bthe base\b|\bbase (?:answers?|outputs?)"
    r"|\bwith(?: or | and |/| vs\.? |out\b.{0,60}\bwith )(?:out)?\b(?=.{0,60}(?:lora|adapt[eo]r))"
    r"|\bwithout (?:\w+ ){0,3}?(?:loras?|adapt[eo]rs?|fine-?tuning)\b"
    r"|\b(?:before|after) (?:and (?:after|before) )?(?:loading|applying|merging|adding|enabling)\b|\bbefore (?:and after )?(?:fine-?tuning|training)\b"
    r"|\bon (?:or|and|/) off\b|\benabled (?:or|and|/) disabled\b"
    r"|\bwhether (?:or not )?(?:i|we|the)\b|\b(?:add|load|enable|use)\w* (?:the )?(?:loras?|adapt[eo]rs?|lora_weights)? ?or not\b"
)
_OUTPUTS = re.compile(
    rf"\b{_OUTPUT}\b|\bmodels?\b|\b(?:work|behav|act|perform|respond|answer|generat|produc|predict)\w*\b"
)
_SOFT = r"(?:\w+ly |any |seem(?:s|ed)? to |appear(?:s|ed)? to |be(?:ing|en)? |get(?:s|ting)? |have |having |make |making |even |at all |really |to |show |see |an? |the |much )"
_NOT = r"(?:\b(?:no|not|never|without|zero|nor|barely|hardly|cannot)\b|n't\b|\b(?:doesnt|didnt|isnt|dont|havent|wasnt|arent)\b|\b(?:fails?|failed|failing|refuses) to\b)"
#: Without "cannot" and "failed to": what is refused is an error, and its message says more.
_NEVER = r"(?:\b(?:not|never|barely|hardly)\b|n't\b|\b(?:doesnt|didnt|isnt|dont|havent|wasnt|arent)\b)"
_EFFECT = re.compile(
    rf"{_NOT} {_SOFT}{{0,5}}(?:\w+ )?(?:effects?|impact|influence|change in|changes in|changes? to|effective)\b"
    rf"|{_NOT} {_SOFT}{{0,4}}(?:affect|alter|influenc|impact|chang)(?:e|es|ing|s)? (?:\w+ ){{0,3}}{_OUTPUT}"
    rf"|\b{_OUTPUT} (?:\w+ )?{_NEVER} {_SOFT}{{0,3}}(?:affect|influenc|chang)(?:ed|es?|ing|s)?\b|\b{_OUTPUT} (?:\w+)?n't {_SOFT}{{0,3}}(?:affected|changed?|influenced)\b"
    rf"|{_NOT} (?:[\w()'-]+ ){{0,14}}?(?:difference|effect|zero results)\b|\bzero (?:results?|effect)\b"
    rf"|{_NEVER} {_SOFT}{{0,4}}(?:appl(?:y|ies|ied)|tak(?:e|en|ing) (?:\w+ )?effect|taken? in(?:to)? (?:account|consideration)|considered|kick in|activated?|respected|picked up|in effect)\b"
    r"|\b0 ?(?:/|of|out of) ?\w{1,8}\)? (?:\w+ ){0,2}?(?:loras?|adapt[eo]rs?|keys|tensors|layers|weights|modules)\b.{0,30}?\b(?:applied|loaded|matched|patched)\b"
    r"|\b(?:does|doing|do|did) (?:absolutely )?nothing\b|\bno-op\b|(?:n't|\bnot|\bwont) (?:do (?:a |any)?thing|react)\b|\bnothing (?:changes|changed|happens|happened)\b"
)
_UNUSED = re.compile(
    rf"(?:loras?|adapt[eo]rs?)(?: (?:weights?|layers?|models?|file))? (?:\w+ ){{0,3}}?\w*{_NEVER} {_SOFT}{{0,4}}(?:load(?:ed)?|used|applied|enabled|active|working|work)\b"
    r"|\b(?:\w+n't|not) (?:my |the |any |our )?(?:loras?|adapt[eo]rs?) (?:\w+ ){0,2}?(?:work|load|apply|used|applied|active)\b"
)
_AS_IF = re.compile(
    r"\b(?:as if|as though|like) (?:\w+'?\w* ){0,5}?(?:no|without|not|never|\w+n't) (?:\w+ ){0,4}?(?:loras?|adapt[eo]rs?|loaded|trained|applied|fine-?tun\w+)"
    r"|\b(?:as if|as though|like) (?:\w+'?\w* ){0,4}?(?:loras?|adapt[eo]rs?) (?:\w+ ){0,3}?(?:not|never|\w+n't|absent|missing)\b"
    r"|\b(?:as if|as though|like) (?:it|they|i|this|that)\w*(?:'s| is| was|'m)? (?:just |only |still )?(?:using |running |talking to )?(?:the )?(?:base|original)\b"
    r"|\bfall(?:s|ing)? back (?:to|on) (?:the |a |an )?(?:base|original|default|different|other)\b|\b(?:serv|run|generat|answer|done|render|work)\w* (?:\w+ )?without (?:the |any |my )?(?:loras?|adapt[eo]rs?)\b|\bstill (?:\w+ ){0,3}(?:the )?(?:base|original) model\b"
    r"|\b(?:same )?as (?:it was |they were )?before (?:the )?(?:fine-?tun\w+|training)\b|(?:n't|\bnot) (?:seem to )?have (?:any )?(?:loras?|adapt[eo]rs?|learn(?:ing|ed))\b"
    r"|\b(?:silently|actually|simply|just|only) (?:serv|us|run|return|answer)\w* (?:\w+ )?(?:the )?(?:base|original) model\b"
    r"|\bmodel (?:remains?|remained|stays?|stayed) (?:\w+ ){0,2}?(?:the )?(?:base|original|unchanged)\b"
)
_IGNORED = re.compile(
    r"(?:loras?|adapt[eo]rs?)\b[^,;.]{0,80}?\b(?:is|are|gets?|being|was|were|completely|simply|silently) (?:\w+ )?(?:ignored|skipped)\b|\bignor(?:es?|ing|ed) (?:\w+ ){0,2}['\"`]?(?:loras?|adapt[eo]rs?)\b"
)
_GARBAGE = re.compile(
    r"\b(?:gibberish|garbage|garbled|nonsens\w+|rubbish|random (?:\w+ ){0,2}(?:tokens?|words?|characters?|text|prediction|output|answers?|labels?|results?|strings?)"
    r"|corrupt(?:ed)? (?:\w+ )?(?:output|text|answers?|images?)|unexpected (?:words?|tokens?|characters?|text)|mangled|abnormal|(?:pure|just|only|random) noise|noisy images?|broken (?:output|text|images?)|incoherent|meaningless|word salad|unreadable)\b"
)
_NAN = re.compile(
    r"\b(?:nans?|infs?)\b(?=.{0,80}\b(?:output|logit|loss|hidden|inference|predict|value|tensor))|\b(?:output|logit|loss|inference|predict|value|hidden)\w*\b.{0,80}\bnans?\b"
    r"|\bblack (?:images?|pictures?|squares?|outputs?|videos?)\b|\b(?:output|all|completely|entirely|just|fully|pure) (?:\w+ )?black\b"
)
#: What is bad of a model that was merged; of others it says too little.
_BAD = re.compile(
    rf"\b(?:bad|worse|poor|terrible|wrong|incorrect|broken|degraded) (?:\w+ )?{_OUTPUT}\b|\b{_OUTPUT} (?:\w+ ){{0,3}}?(?:is|are|were|was|become|becomes) (?:\w+ )?(?:bad|worse|poor|terrible|wrong|broken)\b"
    r"|\bseems? (?:to be )?broken\b|\b(?:los(?:es|t|ing)|forg[eo]t\w*) (?:\w+ ){0,3}(?:coherence|fine-?tuning|training|knowledge|everything)\b"
)
#: One adapter that answers otherwise in an engine than in the library it was trained with.
_DIFFERS = re.compile(
    rf"{_NOT} (?:\w+ )?(?:match|agree|equal|align|consistent)\w*|\bmismatch\w*|\bdiverg\w+|\binconsisten\w+|\bdiffer(?:s|ent|ence|ences)?\b"
)
_ENGINE = re.compile(
    r"\b(?:vllm|sglang|tgi|lmdeploy|llama\.cpp|ollama|lorax|mlx|tensorrt|exllama\w*|gguf|text-generation-inference)\b"
)
_LIBRARY = re.compile(
    r"\b(?:hf|hugging ?face|transformers|peft|original model|model\.generate|llama-?factory|unsloth)\b"
)
#: The factor that starts at zero, said to be zero; and a training after which it is.
_ZERO_FACTOR = r"\b(?:lora_?b|lora[ _]up|b matri\w+)\b.{0,60}?\b(?:zeros?|0)\b|\b(?:zeros?|0)\b.{0,40}\b(?:lora_?b|lora[ _]up|b matri\w+)\b"
_STILL = re.compile(r"\b(?:stay|remain|always|still|every|all|after|through)\w*\b")
_AT_START = re.compile(
    rf"{_ZERO_FACTOR}"
    r"|\b(?:only|still|just|same as|equal to) (?:\w+ ){0,3}?initiali[sz]\w+"
    r"|\b(?:weights?|parameters|matri\w+|b) (?:\w+ ){0,4}?(?:is|are|was|were|does|do|did)(?: not|n't) (?:\w+ ){0,2}?updat(?:ed|ing)\b"
)
_CONSTANT = re.compile(
    r"\bsame (?:value|output|class|label|answer|prediction|token|result|text)s? (?:\w+ ){0,4}?(?:regardless|whatever|no matter|for (?:every|any|all|each))"
)
_TRAINS = re.compile(
    r"\b(?:fine-?tun\w+|train\w*)\b.{0,40}\bnans?\b|\bstep \d|\bgrad_norm|\bwhen (?:i|we) (?:train|fine-?tune)|\badamw|\b(?:training|train) loss|\bwhile training|\bduring training|\btraining (?:run|step|diverg)"
)
_WRONG = (
    r"(?:wrong|unknown|non-?exist\w*|not exist\w*|invalid|made-up|fake|misspell\w*|bogus|incorrect|arbitrary|nonsense)"
)
_ACCEPTED = re.compile(
    rf"{_WRONG} [^.\n]{{0,30}}(?:adapter|lora)(?:[ _-]?(?:id|name))?.{{0,160}}?(?:{_NOT} (?:\w+ ){{0,2}}?(?:fail\w*|error\w*|rais\w+|reject\w*|refus\w*)|accept|succe|200|fall\w* back|base model|still (?:works|answers|returns))"
    rf"|(?:{_NOT} (?:\w+ ){{0,2}}?(?:fail\w*|error\w*|rais\w+|reject\w*|refus\w*)|accepts?|succeeds?).{{0,100}}?{_WRONG} [^.\n]{{0,30}}(?:adapter|lora)[ _-]?(?:id|name)"
)
_SILENT = re.compile(
    r"\b(?:does not|doesn't|never) raise\b|"
    r"\blogs? (?:a )?(?:warning|message) and continu\w+|\b(?:is|are) (?:only |just )?logged and skipped\b|\bonly warns?\b|"
    r"\bsilent(?:ly)?\b|\bwithout (?:\w+ )?(?:error|warning|complain\w*|rais\w+|a word)|\bno (?:error|warning)s?\b"
)
_MISFIT = re.compile(
    r"(?:unknown|incompatible|mismatch\w*|unmatched|unrecogni[sz]ed|invalid|unexpected|missing|wrong|misspelled|non-?matching)[ -](?:\S+ ){0,5}?(?:tensors?|keys?|weights?|shapes?|names?|adapters?|layers?|parameters?)"
)
_TAKES = re.compile(r"\b(?:accept|load|skip|drop|discard|ignor|pass)\w*")
_UNREAD = re.compile(
    r"\b(?:discard|ignor|drop|throw)\w* (?:\w+ ){0,3}?(?:return value|load result|results? of load\w*|incompatible_?keys)"
)
_BYTES = re.compile(r"(?<![\w.])(\d{1,3}) ?(?:b|bytes?)\b")
_FILE = re.compile(
    r"\badapters?(?:_model)?\.(?:bin|pth?|safetensors|npz)|\b(?:adapter|lora)(?: weights?)? (?:file|checkpoint)|\bsaved (?:adapter|lora)|\badapter_model\b"
)
_NOTHING_IN = re.compile(
    r"(?:adapter|lora)\S* (?:\w+ ){0,4}?(?:is|are|was|contains?|holds?|has) (?:\w+ )?(?:an empty (?:dict\w*|state_?dict|file)|empty|no (?:tensors|weights|keys))\b"
    r"|\b(?:saved|exported|merged) (?:\w+ )?(?:models?|files?|checkpoints?) (?:is|are|was) (?:always |almost |nearly )?(?:empty|zero)\b"
)
_RELOAD = re.compile(
    r"\bload\w*\b.{0,80}\b(?:different|random|inconsistent) (?:\w+ ){0,4}?(?:each|every) time\b|"
    r"\b(?:different|random|inconsistent|chang\w+|var(?:y|ies)) (?:\w+ ){0,4}?(?:each|every) (?:\w+ ){0,2}?(?:load|reload|time (?:i|we) (?:re)?load|run of the load)\w*"
    rf"|\b(?:each|every) (?:time|load)\b.{{0,60}}\bload\w*.{{0,80}}\bdifferent {_OUTPUT}"
    r"|\b(?:after|when) (?:re)?-?loading\b.{0,120}\b(?:differs?|different) (?:\w+ ){0,3}?(?:from|than) (?:\w+ ){0,4}?(?:train|before|sav)"
)
_LOADED = re.compile(r"\b(?:re-?load\w*|load(?:s|ed|ing)?|restor(?:ed|ing))\b")
_WORSE = re.compile(
    r"\b(?:much|far|significantly|a lot|way|considerably|drastically|very|huge|large|big|completely) (?:\w+ )?(?:worse|lower|poor(?:er)?|bad|degraded|drop|gap|decrease)\b"
    r"|\b(?:erratic|non-?deterministic|inconsistent|degrad\w+|random(?:ly)?[ -]init\w*|random (?:guess\w*|chance|predictions?|results?|weights)|chance level|performance (?:gap|drop))\b"
    r"|\b(?:accuracy|performance|f1|scores?|metrics?) (?:\w+ ){0,3}?(?:drops?|dropped|falls?|fell|decreas\w+|degrad\w+)\b"
)
_MERGED = re.compile(r"(?<![-_])\b(?:merg\w+|fus(?:ed?|ing))\b(?![-_])|\bcombining\b|save_pretrained_merged")

#: The same in Chinese, which is written without spaces: an adapter, what was seen of it, and what it is about instead.
_HAN = re.compile(r"[\u4e00-\u9fff]")
_HAN_END = re.compile(r"[。！？；!?;\n]")
_HAN_ADAPTER = re.compile(r"lora|adapter|peft|微调|适配器|合并|merge|训练后|训完")
_HAN_OTHER = re.compile(r"速度|显存|内存|loss|学习率|时间|tokenizer|分词|报错|梯度|数据集|如何|怎么才能|是否")
_HAN_BASE = r"(?:原(?:来|始|模型|版|本|生)|基座|基础模型|底座|预训练模型|base|微调(?:之)?前|训练(?:之)?前|没有?加|不加|未加|没有?训练|未训练)"
_HAN_EFFECT = re.compile(
    r"(?:没有?|未能?|毫无|无|没见)(?:任何|什么|明显|真正)?的?(?:生效|起作用|起效|效果|作用|变化|区别|差别|差异|用上|应用|加载上|加载进|合并进|合进|merge进|改变|保持加)"
    r"|不(?:生效|起作用|起效|管用)"
    rf"|{_HAN_BASE}.{{0,40}}(?:一样|一致|相同|没区别|没差别|无异)|(?:一样|相同|一致).{{0,20}}{_HAN_BASE}"
    rf"|(?:还是|仍然?是?|依旧|依然|保持).{{0,60}}{_HAN_BASE}(?!.{{0,40}}(?:好|差))"
)
_HAN_GARBAGE = re.compile(r"乱码|胡言乱语|答非所问|输出(?:异常|混乱|全是|都是)|(?:一直|不停|不断|无限)(?:地)?重复")
_HAN_MERGED = re.compile(r"合并|merge|导出|export")


def statements(text: Text, folded: str) -> tuple[LogStatement, ...]:
    """What the text's sentences tell was seen, in their order."""
    told = bool(_ADAPTER.search(folded[:_TEXT]))
    found = []
    read = list(_sentences(text, folded))
    for at, (start, sentence) in enumerate(read):
        other = bool(_OTHER.search(sentence))
        if other and told and _left_at_zero(sentence):  # gradients and steps are what such a sentence is about
            found.append(LogStatement("at-start", text.line_at(start)))
        if not other and (not _WISH.match(sentence) or _BUT.search(sentence)):
            about = told and any(_ADAPTER.search(one) for _, one in read[max(0, at - 2) : at + 3])
            line = text.line_at(start)
            found += [LogStatement(seen, line, bool(_MERGED.search(sentence))) for seen in _seen(sentence, about=about)]
    found += _in_chinese(text, folded) if _HAN.search(folded[:_TEXT]) else ()
    return tuple(dict.fromkeys(found))[: limits.LOG_SYMPTOMS]


def _in_chinese(text: Text, folded: str) -> Iterator[LogStatement]:
    """What sentences in Chinese tell."""
    start = 0
    told = bool(_HAN_ADAPTER.search(folded[:_TEXT]))
    most = min(len(folded), _TEXT)
    stops = {match.end() for match in _HAN_END.finditer(folded, 0, most)}
    for end in sorted({*stops, *(at for at in text.starts if at < most), most}):
        sentence = folded[start:end][-_SENTENCE:]
        if told and _HAN.search(sentence) and not _HAN_OTHER.search(sentence):
            for seen, words in (("no-effect", _HAN_EFFECT), ("garbage", _HAN_GARBAGE)):
                if words.search(sentence):
                    yield LogStatement(seen, text.line_at(start), bool(_HAN_MERGED.search(sentence)))
        start = end


def _sentences(text: Text, folded: str) -> Iterator[tuple[int, str]]:
    """Sentences of prose with where they start; code, tables and log lines have too few words in a row."""
    most = min(len(folded), _TEXT)
    start = 0
    for end in [*(match.end() for match in _END.finditer(folded, 0, most)), most]:
        # what runs on for long is code or a list without full stops, what changes its subject is a title and what is below it
        lines = text.starts[bisect_right(text.starts, start) : bisect_left(text.starts, end)]
        breaks = lines if end - start > _LONG or (lines and _OTHER.search(folded, start, end)) else ()
        for first, last in zip([start, *breaks], [*breaks, end]):
            sentence = _ALSO.sub("", folded[first:last][:_SENTENCE])
            if _is_prose(sentence):
                yield first, sentence
        start = end


def _is_prose(sentence: str) -> bool:
    words = sentence.split()
    plain = sum(1 for word in words if word.strip("\"'`(),.!?;:*_").replace("'", "").replace("-", "").isalpha())
    return len(words) > 3 and plain * 5 >= len(words) * 3


def _seen(sentence: str, *, about: bool) -> Iterator[str]:
    """The kinds of statements that one sentence makes; `about`: it, or one beside it, names an adapter."""
    if about and (
        _UNREAD.search(sentence) or (_SILENT.search(sentence) and _TAKES.search(sentence) and _MISFIT.search(sentence))
    ):
        yield "misfit-accepted"
    elif about and _ACCEPTED.search(sentence):
        yield "unknown-accepted"
    elif about and _without_effect(sentence):
        yield "no-effect"
    if about and (_GARBAGE.search(sentence) or (_MERGED.search(sentence) and _BAD.search(sentence))):
        yield "garbage"
    if about and _DIFFERS.search(sentence) and _ENGINE.search(sentence) and _LIBRARY.search(sentence):
        yield "differs-by-engine"
    if about and _AT_START.search(sentence) and "after loading" not in sentence:
        yield "at-start"
    if _NAN.search(sentence) and not _TRAINS.search(sentence):
        yield "nan" if about else "nan-somewhere"
    if _CONSTANT.search(sentence):
        yield "constant"
    sized = _BYTES.search(sentence)
    if (sized is not None and _FILE.search(sentence)) or _NOTHING_IN.search(sentence):
        yield "no-tensors"
    if about and (_RELOAD.search(sentence) or (_LOADED.search(sentence) and _WORSE.search(sentence))):
        yield "changes-by-load"


def _left_at_zero(sentence: str) -> bool:
    """Whether a sentence tells that the factor which starts at zero is zero still; how it is initialised is no report."""
    return bool(_ADAPTER.search(sentence) and re.search(_ZERO_FACTOR, sentence) and _STILL.search(sentence))


def _without_effect(sentence: str) -> bool:
    compared = bool(_SAME.search(sentence) and _BASE.search(sentence) and _OUTPUTS.search(sentence))
    untouched = bool(_EFFECT.search(sentence) or _UNUSED.search(sentence) or _IGNORED.search(sentence))
    return compared or untouched or bool(_AS_IF.search(sentence))
