// Encodes the camera's pictures and sends them, beside the page's own work. The latest picture wins, and no more than
// two are on their way.
const QUALITY = 0.8;
const ON_THEIR_WAY = 2;
const HEADER_BYTES = 12;
const DRIFT_S = 1e-5; // between two messages, at the most: 300 millionths at 30 a second

let socket = null, url = null;
let run = 0, free = 0, busy = false, waiting = null;
let ahead = -Infinity; // what the server's clock is ahead of this one, seconds, at the least
const canvas = new OffscreenCanvas(1, 1);
const pen = canvas.getContext("2d", {alpha: false, willReadFrequently: true});

const now = () => performance.timeOrigin + performance.now();

function connect() {
  if (!url || socket) return;
  const mine = (socket = new WebSocket(url));
  mine.binaryType = "arraybuffer";
  mine.onmessage = ({data}) => obey(JSON.parse(data));
  mine.onclose = () => {
    if (socket !== mine) return;
    socket = null;
    halt(0);
    setTimeout(connect, 1000);
  };
}

function halt(next, name) {
  run = next;
  hold(null);
  postMessage({run, name});
}

function hold(next) {
  waiting?.picture.close();
  waiting = next;
}

// A message that left the server at `at` came in later: `at - now()` is never more than the clocks' true difference,
// so that pictures are dated too early rather than too late. What clocks drift apart is taken off.
function obey({run: told, start, stop, at}) {
  ahead = Math.max(start === undefined ? ahead - DRIFT_S : -Infinity, at - now() / 1000);
  if (start !== undefined) {
    free = ON_THEIR_WAY;
    halt(told, start);
  } else if (stop) {
    halt(0);
  } else if (told === run) {
    free += 1;
    work();
  }
}

async function work() {
  if (busy || !waiting || free < 1) return;
  const {run: mine, picture, taken} = waiting;
  waiting = null;
  busy = true;
  try {
    const message = await encode(mine, picture, taken);
    if (mine === run && socket) {
      free -= 1;
      socket.send(message);
    }
  } finally {
    picture.close();
    busy = false;
  }
  work();
}

async function encode(mine, picture, taken) {
  if (canvas.width !== picture.displayWidth) canvas.width = picture.displayWidth;
  if (canvas.height !== picture.displayHeight) canvas.height = picture.displayHeight;
  pen.drawImage(picture, 0, 0);
  const jpeg = await (await canvas.convertToBlob({type: "image/jpeg", quality: QUALITY})).arrayBuffer();
  const message = new Uint8Array(HEADER_BYTES + jpeg.byteLength);
  const header = new DataView(message.buffer);
  header.setUint32(0, mine, true);
  header.setFloat64(4, taken / 1000 + ahead, true);
  message.set(new Uint8Array(jpeg), HEADER_BYTES);
  return message;
}

onmessage = ({data}) => {
  if (data.picture) {
    if (data.run !== run) return data.picture.close();
    hold(data);
    work();
  } else if (data.tell) {
    if (data.tell.run === run) socket?.send(JSON.stringify(data.tell));
  } else if (data.open) {
    url = data.open;
    connect();
  } else {
    const old = socket;
    url = socket = null;
    halt(0);
    old?.close();
  }
};
