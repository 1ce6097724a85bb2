"""diffusers reads what we write, and computes what PEFT computes; what diffusers writes, we read."""

import pytest

torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers", reason="diffusers is installed by `make oracles` only")
peft = pytest.importorskip("peft")

import adapterfit  # noqa: E402
from convert_samples import config, read  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")
LAYERS = ["to_q", "to_out.0", "ff.net.0.proj", "proj_in", "conv1", "time_emb_proj"]
VARIANTS = {
    "plain": {},
    "rsLoRA": {"use_rslora": True},
    "alpha per module": {"alpha_pattern": {"to_q": 32, "proj_in": 3}},
    "rank per module": {"rank_pattern": {"to_q": 2, "conv1": 6}},
    "all of them": {
        "use_rslora": True,
        "alpha_pattern": {"to_q": 5},
        "rank_pattern": {"to_q": 2, "conv1": 6},
    },
}


def unet():
    torch.manual_seed(0)
    return diffusers.UNet2DConditionModel(
        sample_size=8,
        in_channels=4,
        out_channels=4,
        layers_per_block=1,
        block_out_channels=(8, 16),
        norm_num_groups=4,
        cross_attention_dim=8,
        attention_head_dim=4,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    ).eval()


def transformer():
    torch.manual_seed(0)
    return diffusers.SD3Transformer2DModel(
        sample_size=8,
        patch_size=2,
        in_channels=4,
        num_layers=2,
        attention_head_dim=4,
        num_attention_heads=2,
        joint_attention_dim=8,
        caption_projection_dim=8,
        pooled_projection_dim=8,
        out_channels=4,
    ).eval()


def clip():
    from transformers import CLIPTextConfig, CLIPTextModel

    torch.manual_seed(0)
    shape = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2, "num_hidden_layers": 2}
    return CLIPTextModel(CLIPTextConfig(vocab_size=50, max_position_embeddings=16, **shape)).eval()


def outputs(model):
    torch.manual_seed(1)
    model = model.get_base_model() if isinstance(model, peft.PeftModel) else model
    with torch.no_grad():
        if isinstance(model, diffusers.UNet2DConditionModel):
            return model(torch.randn(1, 4, 8, 8), 3, torch.randn(1, 5, 8)).sample
        if isinstance(model, diffusers.SD3Transformer2DModel):
            more = {"pooled_projections": torch.randn(1, 8), "timestep": torch.tensor([3])}
            return model(torch.randn(1, 4, 8, 8), torch.randn(1, 5, 8), **more).sample
        return model(torch.tensor([[1, 2, 3]])).last_hidden_state


def trained(build, folder, **fields):
    """An adapter saved by PEFT with random numbers in it, and what the model computes with it."""
    wrapped = peft.get_peft_model(build(), peft.LoraConfig(r=4, lora_alpha=6, **fields)).eval()
    torch.manual_seed(2)
    for name, parameter in wrapped.named_parameters():
        if "lora_magnitude" in name:
            parameter.data *= 1.25
        elif "lora_" in name:
            parameter.data = torch.randn_like(parameter) * 0.3
    wrapped.save_pretrained(folder)
    return outputs(wrapped)


def loaded(folder, model):
    """The model with a file as diffusers' own pipelines load it."""
    pipeline = diffusers.StableDiffusionPipeline
    state, alphas, metadata = pipeline.lora_state_dict(
        str(folder), unet_config=getattr(model, "config", None), return_lora_metadata=True
    )
    pipeline.load_lora_into_unet(state, alphas, model, metadata=metadata)
    return model


#: In a file of kohya's diffusers 0.42 loses the alphas of attention that differ from the most common one.
DIFFERING = ("alpha per module", "all of them")


@pytest.mark.parametrize("form", ["kohya", "diffusers"])
@pytest.mark.parametrize("name", VARIANTS)
def test_a_unet_computes_the_same(name, form, tmp_path):
    if form == "kohya" and name in DIFFERING:
        pytest.skip("diffusers loses these alphas: see the next test")
    fields = VARIANTS[name]
    expected = trained(unet, tmp_path / "a", target_modules=LAYERS, **fields)
    adapterfit.convert(tmp_path / "a", form, tmp_path / "b")
    found = outputs(loaded(tmp_path / "b", unet()))
    assert not torch.allclose(expected, outputs(unet()), atol=1e-3), "the adapter does something"
    assert torch.allclose(found, expected, rtol=1e-5, atol=1e-5), (found - expected).abs().max()


@pytest.mark.filterwarnings("ignore:The following alpha_pattern keys:RuntimeWarning")
@pytest.mark.parametrize("name", DIFFERING)
def test_where_diffusers_loses_alphas_of_a_kohya_file_it_is_said(name, tmp_path):
    expected = trained(unet, tmp_path / "a", target_modules=LAYERS, **VARIANTS[name])
    done = adapterfit.convert(tmp_path / "a", "kohya", tmp_path / "b")
    assert not torch.allclose(outputs(loaded(tmp_path / "b", unet())), expected, atol=1e-4), (
        "it learned to: drop the note"
    )
    assert "--to diffusers" in " ".join(done.notes)


def test_a_unet_with_dora_computes_the_same(tmp_path):
    expected = trained(unet, tmp_path / "a", target_modules=LAYERS, use_dora=True)
    adapterfit.convert(tmp_path / "a", "diffusers", tmp_path / "b")
    assert torch.allclose(outputs(loaded(tmp_path / "b", unet())), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("fields", VARIANTS.values(), ids=VARIANTS)
def test_a_transformer_computes_the_same(fields, tmp_path):
    chosen = ["to_q", "add_k_proj", "to_out.0", "ff.net.0.proj", "proj_out"]
    fields = {
        **fields,
        "rank_pattern": {"to_q": 2},
        "alpha_pattern": {"add_k_proj": 5} if "alpha_pattern" in fields else {},
    }
    expected = trained(transformer, tmp_path / "a", target_modules=chosen, **fields)
    adapterfit.convert(tmp_path / "a", "diffusers", tmp_path / "b")
    model = transformer()
    pipeline = diffusers.StableDiffusion3Pipeline
    state, metadata = pipeline.lora_state_dict(str(tmp_path / "b"), return_lora_metadata=True)
    pipeline.load_lora_into_transformer(state, model, metadata=metadata)
    assert torch.allclose(outputs(model), expected, rtol=1e-5, atol=1e-5)


TEXT = [
    ("kohya", {}),
    ("kohya", {"use_rslora": True}),
    ("diffusers", {}),
    ("diffusers", {"alpha_pattern": {"q_proj": 32}}),
    ("diffusers", {"use_rslora": True}),
]


@pytest.mark.parametrize(("form", "fields"), TEXT, ids=str)
def test_a_text_encoder_computes_the_same(form, fields, tmp_path):
    expected = trained(clip, tmp_path / "a", target_modules=["q_proj", "out_proj", "fc1"], **fields)
    adapterfit.convert(tmp_path / "a", form, tmp_path / "b")
    pipeline, model = diffusers.StableDiffusionPipeline, clip()
    state, alphas, metadata = pipeline.lora_state_dict(str(tmp_path / "b"), return_lora_metadata=True)
    pipeline.load_lora_into_text_encoder(state, alphas, model, metadata=metadata)
    assert torch.allclose(outputs(model), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("fields", VARIANTS.values(), ids=VARIANTS)
def test_what_diffusers_saved_computes_the_same_under_peft(fields, tmp_path):
    trained(unet, tmp_path / "a", target_modules=LAYERS, **fields)
    adapterfit.convert(tmp_path / "a", "diffusers", tmp_path / "b")
    model = loaded(tmp_path / "b", unet())
    expected = outputs(model)
    model.save_lora_adapter(tmp_path / "theirs", adapter_name=next(iter(model.peft_config)))
    adapterfit.convert(tmp_path / "theirs", "peft", tmp_path / "back")
    again = peft.PeftModel.from_pretrained(unet(), tmp_path / "back").eval()
    assert torch.allclose(outputs(again), expected, rtol=1e-5, atol=1e-5)
    assert read(tmp_path / "back/adapter_model.safetensors") == read(tmp_path / "a/adapter_model.safetensors")
    assert config(tmp_path / "back")["use_rslora"] == fields.get("use_rslora", False)


@pytest.mark.parametrize("form", ["peft", "kohya", "diffusers"])
def test_an_adapter_is_merged_into_a_unet_in_diffusers_own_layout(form, tmp_path):
    """Whatever format the adapter is in: the merged UNet computes what PEFT computes."""
    expected = trained(unet, tmp_path / "a", target_modules=LAYERS, use_rslora=True, rank_pattern={"to_q": 2})
    unet().save_pretrained(tmp_path / "unet")
    source = tmp_path / "a"
    if form != "peft":
        adapterfit.convert(source, form, tmp_path / form)
        source = tmp_path / form
    adapterfit.convert(source, "merged", tmp_path / "m", base=tmp_path / "unet")
    found = outputs(diffusers.UNet2DConditionModel.from_pretrained(tmp_path / "m").eval())
    assert torch.allclose(found, expected, rtol=1e-5, atol=1e-5)


def flux():
    torch.manual_seed(0)
    return diffusers.FluxTransformer2DModel(
        patch_size=1,
        in_channels=4,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=8,
        pooled_projection_dim=8,
        axes_dims_rope=(2, 2, 4),
    ).eval()


def flux_output(model):
    torch.manual_seed(1)
    more = {
        "pooled_projections": torch.randn(1, 8),
        "timestep": torch.tensor([0.3]),
        "img_ids": torch.zeros(4, 3),
        "txt_ids": torch.zeros(5, 3),
    }
    model = model.get_base_model() if isinstance(model, peft.PeftModel) else model
    with torch.no_grad():
        return model(torch.randn(1, 4, 4), encoder_hidden_states=torch.randn(1, 5, 8), **more).sample


@pytest.mark.parametrize("form", ["kohya", "diffusers"])
def test_flux_computes_the_same(form, tmp_path):
    beside = [] if form == "kohya" else ["proj_mlp", "ff.net.0.proj"]  # diffusers reads only attention of kohya's
    chosen = ["to_q", "add_k_proj", "to_out.0", *beside]
    wrapped = peft.get_peft_model(flux(), peft.LoraConfig(r=4, lora_alpha=6, target_modules=chosen)).eval()
    torch.manual_seed(2)
    for name, parameter in wrapped.named_parameters():
        if "lora_" in name:
            parameter.data = torch.randn_like(parameter) * 0.3
    wrapped.save_pretrained(tmp_path / "a")
    expected = flux_output(wrapped)
    adapterfit.convert(tmp_path / "a", form, tmp_path / "b")
    pipeline, model = diffusers.FluxPipeline, flux()
    state, alphas, metadata = pipeline.lora_state_dict(
        str(tmp_path / "b"), return_alphas=True, return_lora_metadata=True
    )
    pipeline.load_lora_into_transformer(state, alphas or None, model, metadata=metadata)
    assert not torch.allclose(expected, flux_output(flux()), atol=1e-3)
    assert torch.allclose(flux_output(model), expected, rtol=1e-5, atol=1e-5)


def test_fluxs_own_names_give_what_diffusers_makes_of_them(tmp_path):
    """Joined q, k and v of Flux's makers, by diffusers' converter and by ours, on a model as wide as Flux."""
    from safetensors.torch import save_file

    torch.manual_seed(3)
    shapes = {
        "double_blocks_0_img_attn_qkv": (9216, 3072),
        "single_blocks_0_linear1": (21504, 3072),
        "double_blocks_0_img_mlp_0": (12288, 3072),
    }
    state = {}
    for name, (rows, width) in shapes.items():
        state[f"lora_unet_{name}.lora_down.weight"] = torch.randn(2, width)
        state[f"lora_unet_{name}.lora_up.weight"] = torch.randn(rows, 2)
        state[f"lora_unet_{name}.alpha"] = torch.tensor(4.0)
    save_file(state, tmp_path / "flux.safetensors")
    adapterfit.convert(tmp_path / "flux.safetensors", "peft", tmp_path / "p")
    theirs = diffusers.FluxPipeline.lora_state_dict(str(tmp_path), weight_name="flux.safetensors")
    from safetensors.torch import load_file

    ours = load_file(tmp_path / "p/adapter_model.safetensors")
    modules = {name.removesuffix(".lora_A.weight") for name in ours if name.endswith("lora_A.weight")}
    assert {f"transformer.{module[len('base_model.model.') :]}.lora_A.weight" for module in modules} == {
        n for n in theirs if "lora_A" in n
    }
    for module in modules:
        name = f"transformer.{module[len('base_model.model.') :]}"
        rows = slice(0, 7)
        wanted = theirs[f"{name}.lora_B.weight"][rows] @ theirs[f"{name}.lora_A.weight"]
        found = 2.0 * ours[f"{module}.lora_B.weight"][rows] @ ours[f"{module}.lora_A.weight"]
        assert torch.allclose(found, wanted, rtol=1e-5, atol=1e-5)
