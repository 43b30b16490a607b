// Cayenne LPP as the weather nodes send it.
const scales = { 101: [2, 1], 103: [2, 10], 104: [1, 2], 115: [2, 10] };
const names = {
  "103.0": "air_temperature", "104.0": "air_humidity", "115.0": "air_pressure", "101.0": "illuminance",
  "103.1": "soil_temperature", "104.1": "soil_moisture",
};
const frame = Buffer.from(msg.payload.data, "base64");
const time = msg.payload.time;
const device = msg.payload.deviceInfo.devEui;
const rows = [];
for (let at = 0; at < frame.length; ) {
  const channel = frame[at], type = frame[at + 1];
  const [size, perUnit] = scales[type];
  const raw = type === 103 ? frame.readInt16BE(at + 2) : frame.readUIntBE(at + 2, size);
  rows.push(time, device, names[type + "." + channel], raw / perUnit);
  at += 2 + size;
}
msg.payload = rows;
return msg;
