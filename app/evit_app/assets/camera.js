// The page's end of its camera: asks for it, and hands its pictures to camera_worker.js, which encodes and sends them.
(() => {
  const {search} = new URL(document.currentScript.src);
  const worker = new Worker("/camera_worker.js" + search);
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  const key = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");

  // The server has to know which page's camera it is: both sockets of this page carry its key.
  const keyed = (path) => {
    const url = new URL(path, location.href);
    url.protocol = location.protocol === "https:" ? "wss:" : "ws:";
    url.searchParams.set("camera", key);
    return url.href;
  };
  window.WebSocket = class extends WebSocket {
    constructor(url, protocols) {
      super(keyed(url), protocols ?? []);
      this.addEventListener("open", () => worker.postMessage({open: keyed("/camera")}));
      this.addEventListener("close", () => worker.postMessage({close: true}));
    }
  };

  const video = document.createElement("video");
  video.muted = video.playsInline = true;
  let current = 0;

  const stop = (stream) => stream?.getTracks().forEach((track) => track.stop());

  const cameras = async () => (await navigator.mediaDevices.enumerateDevices()).filter((one) => one.kind === "videoinput");

  async function start(run, name) {
    if (!navigator.mediaDevices) throw new Error("browsers give their camera to https and localhost only");
    if (!window.VideoFrame || !video.requestVideoFrameCallback) throw new Error("this browser is too old");
    const wanted = name && (await cameras()).find((one) => one.label === name);
    const which = wanted ? {deviceId: {exact: wanted.deviceId}} : {facingMode: {ideal: "environment"}};
    const asked = {width: {ideal: 640}, height: {ideal: 480}, frameRate: {ideal: 30}, ...which};
    const stream = await navigator.mediaDevices.getUserMedia({video: asked, audio: false});
    if (run !== current) return stop(stream);
    const track = stream.getVideoTracks()[0];
    track.onended = () => run === current && worker.postMessage({tell: {run, failed: "TrackEnded", reason: "it ended"}});
    video.srcObject = stream;
    await video.play();
    const names = (await cameras()).map((one) => one.label);
    worker.postMessage({tell: {run, started: track.label, names}});
    const look = (now, {captureTime}) => {
      if (run !== current) return;
      video.requestVideoFrameCallback(look);
      const taken = performance.timeOrigin + Math.min(now, captureTime ?? now);
      const picture = new VideoFrame(video);
      worker.postMessage({run, picture, taken}, [picture]);
    };
    video.requestVideoFrameCallback(look);
  }

  worker.onmessage = async ({data: {run, name}}) => {
    current = run;
    stop(video.srcObject);
    video.srcObject = null;
    if (name === undefined) return;
    try {
      await start(run, name);
    } catch (error) {
      if (run === current) stop(video.srcObject);
      worker.postMessage({tell: {run, failed: error.name, reason: error.message}});
    }
  };
})();
