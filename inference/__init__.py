"""Recommendations from an exported GRU4Rec model, with numpy and onnxruntime and nothing else.

from inference import Recommender

recommender = Recommender.load("model.onnx")
for recommendation in recommender.recommend([["item 7", "item 9"]], k=5):
    print(recommendation.items, recommendation.scores)
"""

from inference.errors import UserError
from inference.recommender import Recommendation, Recommender, SessionState
from inference.vocabulary import Vocabulary

__all__ = ["Recommendation", "Recommender", "SessionState", "UserError", "Vocabulary"]
