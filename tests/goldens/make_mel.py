"""Writes mel.safetensors: librosa's mel bank, and the log-mel of a synthetic clip. Run in the parity environment."""

from pathlib import Path

import librosa
import numpy as np
from safetensors.numpy import save_file

RATE, N_FFT, HOP, MELS = 16000, 1024, 160, 64

t = np.arange(RATE) / RATE
wave = 0.3 * np.sin(2 * np.pi * 220 * t) + 0.2 * np.sin(2 * np.pi * 3000 * t * t) * (t < 0.7)
wave = wave.astype(np.float32).astype(np.float64)  # exact in both precisions; analysed in float64
bank = librosa.filters.mel(sr=RATE, n_fft=N_FFT, n_mels=MELS, fmin=0.0, fmax=8000.0, htk=False, norm="slaney")
spectrum = np.abs(
    librosa.stft(wave, n_fft=N_FFT, hop_length=HOP, window="hann", center=True, pad_mode="reflect")
)
log_mel = np.log(np.maximum(bank @ spectrum, 1e-5))
save_file(
    {"wave": wave.astype(np.float32), "bank": bank, "log_mel": np.ascontiguousarray(log_mel.T)},
    Path(__file__).parent / "mel.safetensors",
    metadata={"producer": f"librosa {librosa.__version__}, numpy {np.__version__}"},
)
