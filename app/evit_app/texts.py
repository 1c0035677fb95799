"""Every sentence that the app shows, in one place and in two languages."""

from __future__ import annotations

from dataclasses import dataclass

from evit_app.comparison import Comparison
from evit_app.pipeline import Stages
from evit_app.rates import Steadiness
from evit_app.session import ReplayStatus, ThisDevice


@dataclass(frozen=True)
class Texts:
    """One language. Fields with braces are filled by the method of the like name."""

    language: str
    code: str
    title: str
    start: str
    stop: str
    pause: str
    resume: str
    flip: str
    mirror: str
    turn: str
    snapshot: str
    choose: str
    open_model: str
    open_video: str
    source: str
    model_choice: str
    compare: str
    no_comparison: str
    threads: str
    smoothing: str
    threshold: str
    threshold_choice: str
    theme: str
    language_choice: str
    own_camera: str
    loading: str
    classifying: str
    nothing_chosen: str
    starting: str
    live: str
    paused: str
    stopped: str
    saved: str
    offer: str
    no_camera: str
    camera_refused: str
    camera_lost: str
    not_sure: str
    picture_of: str
    live_picture: str
    device_line: str
    model_line: str
    times_line: str
    stages_line: str
    display_part: str
    rate_camera: str
    rate_inference: str
    rate_end_to_end: str
    rate_display: str
    no_rate: str
    dropped_line: str
    chart: str
    comparison_line: str
    score: str
    benchmark: str
    benchmark_cancel: str
    benchmark_starts: str
    benchmark_left: str
    benchmark_save: str
    phase_load: str
    phase_warm_up: str
    phase_measure: str
    phase_stages: str
    phase_cold_start: str
    phase_peaks: str
    measuring: str
    steady: str
    throttling: str
    same: str
    different: str
    unchecked: str

    def picture(self, name: str) -> str:
        """What a screen reader says of the picture."""
        return self.picture_of.format(name=name)

    def device(self, device: ThisDevice) -> str:
        """What everything runs on."""
        return self.device_line.format(cpu=device.cpu, cores=device.cores, system=device.system)

    def model(self, name: str, runtime: str, threads: int, side: int) -> str:
        """The model and what runs it."""
        return self.model_line.format(name=name, runtime=runtime, threads=threads, side=side)

    def times(self, decode_s: float, preprocess_s: float, inference_s: float) -> str:
        """The three stages of a picture from disk; seconds in, milliseconds out."""
        return self.times_line.format(
            decode=1000 * decode_s, preprocess=1000 * preprocess_s, inference=1000 * inference_s
        )

    def stages(self, stages: Stages, display_s: float | None) -> str:
        """Where a live frame's time goes; seconds in, milliseconds out."""
        line = self.stages_line.format(
            capture=1000 * stages.capture_s,
            preprocess=1000 * stages.preprocess_s,
            inference=1000 * stages.inference_s,
            postprocess=1000 * stages.postprocess_s,
            delay=1000 * stages.delay_s,
        )
        return line if display_s is None else line + self.display_part.format(display=1000 * display_s)

    def rate(self, per_second: float | None) -> str:
        """A rate without its name."""
        return self.no_rate if per_second is None else f"{per_second:.1f}/s"

    def dropped(self, dropped: int, captured: int) -> str:
        """How many frames no model saw."""
        return self.dropped_line.format(dropped=dropped, captured=captured)

    def latency_chart(self, median_s: float) -> str:
        """What a screen reader says of the chart."""
        return self.chart.format(median=1000 * median_s)

    def comparison(self, comparison: Comparison) -> str:
        """How two models compare."""
        return self.comparison_line.format(
            frames=comparison.frames, agreement=100 * comparison.agreement, ratio=comparison.speed_ratio
        )

    def benchmark_progress(self, phase: str, subject: str, remaining_s: float | None) -> str:
        """What is being measured; ``phase`` is the name of a benchmark's phase."""
        line = f"{getattr(self, f'phase_{phase.lower()}')} {subject}".strip()
        return line if remaining_s is None else line + self.benchmark_left.format(seconds=round(remaining_s))

    def percent(self, probability: float) -> str:
        """A probability as a score."""
        return self.score.format(percent=100 * probability)

    def replay(self, status: ReplayStatus, detail: str) -> str:
        """What came of the golden vectors."""
        return str(getattr(self, status.value)).format(detail=detail)

    def verdict(self, steadiness: Steadiness) -> str:
        """Whether the model keeps its speed."""
        return str(getattr(self, steadiness.value))


ENGLISH = Texts(
    language="English",
    code="en",
    title="evit-edge",
    start="Start",
    stop="Stop",
    pause="Pause",
    resume="Resume",
    flip="Flip upside down",
    mirror="Mirror",
    turn="Turn by 90 degrees",
    snapshot="Save a snapshot with its labels",
    choose="Choose a picture",
    open_model="Open a model file",
    open_video="Open a video",
    source="Source",
    model_choice="Model",
    compare="Compare with",
    no_comparison="nothing",
    threads="Threads",
    smoothing="Smooth labels over time",
    threshold="Not sure below {value} %",
    threshold_choice="Threshold below which the app is not sure, in percent",
    theme="Light or dark",
    language_choice="Language",
    own_camera="This device's camera",
    loading="Loading the model...",
    classifying="Looking at the picture...",
    nothing_chosen="Start the camera, or choose a picture.",
    starting="Starting {name}...",
    live="Live: {name}",
    paused="Paused",
    stopped="Stopped",
    saved="Saved: {name}",
    offer="Choose another source, open a video or choose a picture.",
    no_camera="No camera was found on this device.",
    camera_refused="The camera was refused. Allow it for this page, then start again.",
    camera_lost="The camera sends no pictures any more: {reason}",
    not_sure="not sure",
    picture_of="Picture: {name}",
    live_picture="Live picture with the square that the model sees",
    device_line="{cpu}, {cores} cores, {system}",
    model_line="{name}, {side} px · {runtime}, {threads} thread(s)",
    times_line="decode {decode:.2f} ms · preprocess {preprocess:.2f} ms · inference {inference:.2f} ms",
    stages_line="capture {capture:.1f} · preprocess {preprocess:.1f} · inference {inference:.1f} · "
    "postprocess {postprocess:.1f} ms; picture to label {delay:.1f} ms",
    display_part="; display {display:.1f} ms",
    rate_camera="Camera",
    rate_inference="Model alone",
    rate_end_to_end="End to end",
    rate_display="Display",
    no_rate="-",
    dropped_line="{dropped} of {captured} frames dropped",
    chart="Inference time of the last half minute, median {median:.1f} ms",
    comparison_line="same label on {agreement:.1f} % of {frames} frames; the second is {ratio:.2f} times as fast",
    score="{percent:.1f} %",
    benchmark="Benchmark",
    benchmark_cancel="End the benchmark",
    benchmark_starts="The camera rests; the benchmark begins...",
    benchmark_left=": {seconds} s left",
    benchmark_save="Save the report as {kind}",
    phase_load="Loading",
    phase_warm_up="Warming up",
    phase_measure="Timing",
    phase_stages="Timing the steps around",
    phase_cold_start="Starting afresh",
    phase_peaks="Measuring what this machine can do",
    measuring="Speed: measuring",
    steady="Speed: steady",
    throttling="Speed: slower than at the start (heat or other load)",
    same="This device gives the reference's answer: {detail}",
    different="This device does NOT give the reference's answer, do not trust the labels: {detail}",
    unchecked="Not compared with the reference: {detail}",
)

KOREAN = Texts(
    language="한국어",
    code="ko",
    title="evit-edge",
    start="시작",
    stop="정지",
    pause="일시 정지",
    resume="계속",
    flip="위아래 뒤집기",
    mirror="좌우 반전",
    turn="90도 회전",
    snapshot="라벨과 함께 사진 저장",
    choose="사진 선택",
    open_model="모델 파일 열기",
    open_video="동영상 열기",
    source="입력",
    model_choice="모델",
    compare="비교 대상",
    no_comparison="없음",
    threads="스레드",
    smoothing="라벨을 시간에 따라 평활화",
    threshold="{value} % 미만이면 불확실",
    threshold_choice="불확실로 보는 기준값(퍼센트)",
    theme="밝게 또는 어둡게",
    language_choice="언어",
    own_camera="이 기기의 카메라",
    loading="모델을 불러오는 중...",
    classifying="사진을 살펴보는 중...",
    nothing_chosen="카메라를 시작하거나 사진을 선택하세요.",
    starting="{name} 시작하는 중...",
    live="실시간: {name}",
    paused="일시 정지됨",
    stopped="정지됨",
    saved="저장됨: {name}",
    offer="다른 입력을 고르거나 동영상 또는 사진을 선택하세요.",
    no_camera="이 기기에서 카메라를 찾지 못했습니다.",
    camera_refused="카메라 사용이 거부되었습니다. 이 페이지에 허용한 뒤 다시 시작하세요.",
    camera_lost="카메라에서 더 이상 영상이 오지 않습니다: {reason}",
    not_sure="불확실",
    picture_of="사진: {name}",
    live_picture="실시간 영상과 모델이 보는 정사각형",
    device_line="{cpu}, 코어 {cores}개, {system}",
    model_line="{name}, {side} px · {runtime}, 스레드 {threads}개",
    times_line="디코딩 {decode:.2f} ms · 전처리 {preprocess:.2f} ms · 추론 {inference:.2f} ms",
    stages_line="캡처 {capture:.1f} · 전처리 {preprocess:.1f} · 추론 {inference:.1f} · "
    "후처리 {postprocess:.1f} ms; 영상에서 라벨까지 {delay:.1f} ms",
    display_part="; 표시 {display:.1f} ms",
    rate_camera="카메라",
    rate_inference="모델 단독",
    rate_end_to_end="전체 과정",
    rate_display="화면",
    no_rate="-",
    dropped_line="프레임 {captured}개 중 {dropped}개 버림",
    chart="최근 30초의 추론 시간, 중앙값 {median:.1f} ms",
    comparison_line="프레임 {frames}개 중 {agreement:.1f} %에서 같은 라벨; 두 번째가 {ratio:.2f}배 빠름",
    score="{percent:.1f} %",
    benchmark="벤치마크",
    benchmark_cancel="벤치마크 끝내기",
    benchmark_starts="카메라를 쉬게 하고 벤치마크를 시작합니다...",
    benchmark_left=": {seconds}초 남음",
    benchmark_save="보고서를 {kind}(으)로 저장",
    phase_load="불러오는 중",
    phase_warm_up="준비 실행 중",
    phase_measure="시간 측정 중",
    phase_stages="앞뒤 단계 측정 중",
    phase_cold_start="처음부터 다시 시작하는 중",
    phase_peaks="이 기기의 한계 측정 중",
    measuring="속도: 측정 중",
    steady="속도: 일정함",
    throttling="속도: 시작할 때보다 느림 (발열 또는 다른 부하)",
    same="이 기기의 답은 기준과 같습니다: {detail}",
    different="이 기기의 답은 기준과 다릅니다. 라벨을 믿지 마세요: {detail}",
    unchecked="기준과 비교하지 않음: {detail}",
)

LANGUAGES = (ENGLISH, KOREAN)
